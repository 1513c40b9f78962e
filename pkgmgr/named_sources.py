"""The Go sources of the formats in `named_templates`, written anew. Pure.

Each gives the bytes that Ollama's template of that name gives, its oddities included: a turn that
Command R closes twice, a line's end too many after Gemma 3's answer.
"""

# A heading for each role, which other roles have not; then the text.
_HEADED = """\
{{{{- range .Messages }}}}
{{{{- if eq .Role "system" }}}}{system}
{{{{- else if eq .Role "user" }}}}{user}
{{{{- else if eq .Role "assistant" }}}}{assistant}
{{{{- end }}}}{after}{{{{ .Content }}}}{{{{ if eq .Role "assistant" }}}}{end}{{{{ end }}}}

{{{{ end }}}}{answer}"""
# For formats without a place for a system prompt: it is held until the next user turn.
_HOLD_SYSTEM = """\
{{- $system := "" }}
{{- range .Messages }}
{{- if eq .Role "system" }}{{ $system = .Content }}{{ continue }}{{ end }}
"""

ALFRED = """\
{{- range .Messages }}<start_{{ .Role }}>{{ .Content }}<end_message>{{ end }}<start_assistant>"""
ALPACA = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}### Instruction:
{{ .Content }}

{{ else if eq .Role "assistant" }}### Response:
{{ .Content }}

{{ end }}
{{- end }}### Response:
"""
)
CHATML = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
CHATQA = _HEADED.format(
    system="System:", user="User:", assistant="Assistant:", after=" ", end="", answer="Assistant:"
)
CODELLAMA_70B = """\
{{- range .Messages }}Source:{{ if eq .Role "system" "user" "assistant" }} {{ .Role }}{{ end }}

 {{ .Content }} <step> {{ end }}Source: assistant
Destination: user

 """
# Command R's prompt for the use of tools, as its maker published it.
_COMMAND_R_RULES = """\
# Safety Preamble
The instructions in this section override those in the task description and style guide sections\
. Don't answer questions that are harmful or immoral.

# System Preamble
## Basic Rules
You are a powerful conversational AI trained by Cohere to help people. You are augmented by a \
number of tools, and your job is to use and consume the output of these tools to best help the \
user. You will see a conversation history between yourself and a user, ending with an utterance \
from the user. You will then see a specific instruction instructing you what kind of response to \
generate. When you answer the user's requests, you cite your sources in your answers, according to \
those instructions.

"""
_COMMAND_R_ASK = """\
<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Write 'Action:' followed by a json-formatted list of \
actions that you want to perform in order to produce a good response to the user's last input. \
You can use any of the supplied tools any number of times, but you should aim to execute the \
minimum number of necessary actions for the input. You should use the `directly-answer` tool if \
calling the other tools is unnecessary. The list of actions you want to call should be formatted \
as a list of json objects, for example:
```json
[
    {
        "tool_name": title of the tool in the specification,
        "parameters": a dict of parameters to input into the tool as they are defined in the \
specs, or {} if it takes no parameters
    }
]```"""
COMMAND_R = (
    "{{- if .Tools }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>"
    + _COMMAND_R_RULES
    + """\
{{ if .System }}# User Preamble
{{ .System }}
{{- end }}

## Available Tools
Here is a list of tools that you have available to you:
{{- range .Tools }}

```python
def {{ .Function.Name }}(
{{- range $name, $property := .Function.Parameters.Properties -}}
{{ $name }}: {{ $property.Type }}, {{ end }}) -> List[Dict]:
    '''{{ .Function.Description }}
{{- if .Function.Parameters.Properties }}

    Args:
{{- range $name, $property := .Function.Parameters.Properties }}
        {{ $name }} ({{ $property.Type }}): {{ $property.Description }}
{{- end }}
{{- end }}
    '''
    pass
```
{{- end }}<|END_OF_TURN_TOKEN|>
{{- else if .System }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{{ .System }}<|END_OF_TURN_TOKEN|>
{{- end }}
{{- range .Messages }}
{{- if eq .Role "system" }}{{ continue }}{{ end }}<|START_OF_TURN_TOKEN|>
{{- if eq .Role "user" }}<|USER_TOKEN|>{{ .Content }}
{{- if $.Tools }}"""
    + _COMMAND_R_ASK
    + """{{ end }}
{{- else if eq .Role "assistant" }}<|CHATBOT_TOKEN|>
{{- if .Content }}{{ .Content }}
{{- else if .ToolCalls }}
Action: ```json
[
{{- range .ToolCalls }}
    {
        "tool_name": "{{ .Function.Name }}",
        "parameters": {{ .Function.Arguments }}
    }
{{- end }}
]```
{{- end }}
{{- else if eq .Role "tool" }}<|SYSTEM_TOKEN|><results>
console_output: {{ .Content }}
</results>
{{- end }}<|END_OF_TURN_TOKEN|>
{{- end }}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>
"""
)
FALCON = """\
{{- range .Messages }}
{{- if eq .Role "system" }}System: {{ else if eq .Role "user" }}User:
{{ else if eq .Role "assistant" }}Falcon:
{{ else }}
{{ end }}{{ .Content }}
{{ end }}Falcon:
"""
GEMMA = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}<start_of_turn>user
{{- if $system }}
{{ $system }}{{ $system = "" }}
{{- end }}
{{- else if eq .Role "assistant" }}<start_of_turn>model
{{- end }}
{{ .Content }}<end_of_turn>
{{ end }}<start_of_turn>model
"""
)
GEMMA3 = """\
{{- range $i, $_ := .Messages }}
{{- if eq .Role "user" }}<start_of_turn>user
{{ if and $.System (eq $i 1) }}{{ $.System }}

{{ end }}{{ .Content }}<end_of_turn>
{{ else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}<end_of_turn>
{{ end }}
{{- end }}<start_of_turn>model

"""
GRANITE = _HEADED.format(
    system="System:",
    user="Question:",
    assistant="Answer:",
    after="\n",
    end="",
    answer="Answer:\n",
)
LLAMA2 = (
    "[INST] "
    + _HOLD_SYSTEM.replace("{{- ", "{{ ", 1)
    + """\
{{- if eq .Role "user" }}<<SYS>>{{ if $system }}
{{ $system }}
{{ $system = "" }}{{ end }}<</SYS>>

{{ .Content }} [/INST]
{{- else if eq .Role "assistant" }} {{ .Content }}</s><s>[INST] {{ end }}
{{- end }}"""
)
LLAMA3 = """\
{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>

{{ .Content }}<|eot_id|>
{{- end }}<|start_header_id|>assistant<|end_header_id|>

"""
MAGICODER = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}@@ Instruction
{{- else if eq .Role "assistant" }}@@ Response
{{- end }}
{{ .Content }}

{{ end }}@@ Response
"""
)
MISTRAL = """\
[INST] {{ range .Messages }}
{{- if eq .Role "system" }}{{ .Content }}

{{ else if eq .Role "user" }}{{ .Content }}[/INST]
{{- else if eq .Role "assistant" }} {{ .Content }}</s>[INST] {{ end }}
{{- end }}"""
OPENCHAT = """\
{{- range .Messages }}GPT4 Correct {{ if eq .Role "system" }}System: {{ else if eq .Role "user" -}}
User: {{ else if eq .Role "assistant" }}Assistant: {{ end }}{{ .Content }}<|end_of_turn|>
{{- end }}GPT4 Correct Assistant:"""
PHI3 = """\
{{- range .Messages }}<|{{ .Role }}|>
{{ .Content }}<|end|>
{{ end }}<|assistant|>
"""
SOLAR = _HEADED.format(
    system="### System:",
    user="### User:",
    assistant="### Assistant:",
    after="\n",
    end="</s>",
    answer="### Assistant:\n",
)
STARCODER2 = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}### Instruction
{{ .Content }}

{{ else if eq .Role "assistant" }}### Response
{{ .Content }}<|endoftext|>

{{ end }}
{{- end }}### Response
"""
)
VICUNA = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}USER: {{ .Content }}
{{ else if eq .Role "assistant" }}ASSISTANT: {{ .Content }}</s>
{{ end }}
{{- end }}ASSISTANT:"""
)
ZEPHYR = """\
{{- range .Messages }}<|{{ .Role }}|>
{{ .Content }}</s>
{{ end }}<|assistant|>
"""
