"""What Python clients that nobody here wrote can do with a server; prints one JSON line a check.

    python suite.py URL

Needs the clients alone, in an environment of their own (some pin each other's versions), and a
server with the models `smollm2`, `smollm2-tools` and `smollm2-eyes`. Run it by
`tests/clients/run.py`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:11434"
MODEL, TOOLS_MODEL, EYES_MODEL = "smollm2", "smollm2-tools", "smollm2-eyes"
QUESTION = "What is the capital of France? One sentence."
ASK: Any = [{"role": "user", "content": QUESTION}]
SHORT = {"num_predict": 24}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
    "additionalProperties": False,
}
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather", "parameters": PARAMETERS},
}
CHECKS: list[tuple[str, str, Callable[[], None]]] = []


def check(client: str, feature: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a check of one feature of one client."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        CHECKS.append((client, feature, function))
        return function

    return register


def is_paris(text: str | None) -> None:
    assert "Paris" in (text or ""), text


def refusal(function: Callable[[], object]) -> Exception:
    """What a client raises; everything else is a failure."""
    try:
        function()
    except Exception as error:  # which one it is, the caller checks
        return error
    raise AssertionError("it was not refused")


def picture(shade: int) -> bytes:
    """A PNG of one colour, 8 pixels square."""
    rows = (b"\0" + bytes([shade, 255 - shade, 40]) * 8) * 8
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def picture_text(shade: int) -> str:
    """The same in base64."""
    return base64.b64encode(picture(shade)).decode()


# ollama, sync and async


def theirs() -> Any:
    import ollama

    return ollama.Client(host=URL)


@check("ollama", "chat")
def _() -> None:
    is_paris(theirs().chat(MODEL, ASK, options=SHORT).message.content)


@check("ollama", "chat, streamed")
def _() -> None:
    parts = list(theirs().chat(MODEL, ASK, options=SHORT, stream=True))
    is_paris("".join(part.message.content or "" for part in parts))
    assert parts[-1].done
    assert parts[-1].eval_count == len(parts) - 1 or parts[-1].eval_count > 3


@check("ollama", "generate, raw, suffix refused")
def _() -> None:
    import ollama

    is_paris(theirs().generate(MODEL, "The capital of France is", raw=True, options=SHORT).response)
    error = refusal(lambda: theirs().generate(MODEL, "def f(", suffix="return x"))
    assert isinstance(error, ollama.ResponseError)
    assert error.status_code == 400


@check("ollama", "images")
def _() -> None:
    import ollama

    def shown(*images: Any) -> Any:
        message = {"role": "user", "content": "What is it?", "images": list(images)}
        return theirs().chat(EYES_MODEL, [message], options=SHORT)

    one, two, bare = shown(picture(9)), shown(picture(9), picture_text(200)), shown()
    assert one.message.content
    cells = one.prompt_eval_count - bare.prompt_eval_count
    assert two.prompt_eval_count - bare.prompt_eval_count == 2 * cells > 0
    answer = theirs().generate(EYES_MODEL, "What is it?", images=[picture(9)], options=SHORT)
    assert answer.response == one.message.content
    error = refusal(lambda: theirs().generate(EYES_MODEL, "What?", images=["aGVsbG8="]))
    assert isinstance(error, ollama.ResponseError)
    assert error.status_code == 400


@check("ollama", "structured output")
def _() -> None:
    answer = theirs().chat(MODEL, ASK, format=SCHEMA, options={"num_predict": 200})
    assert set(json.loads(answer.message.content)) == {"city", "country"}


@check("ollama", "tools")
def _() -> None:
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: where
        """
        return city

    answer = theirs().chat(TOOLS_MODEL, ASK, tools=[weather], options=SHORT)
    assert answer.message.content or answer.message.tool_calls


@check("ollama", "logprobs")
def _() -> None:
    answer = theirs().chat(MODEL, ASK, logprobs=True, top_logprobs=2, options=SHORT)
    assert len(answer.logprobs[0].top_logprobs) == 2


@check("ollama", "embed, embeddings")
def _() -> None:
    vectors = theirs().embed(MODEL, ["one", "two"]).embeddings
    assert len(vectors) == 2
    assert abs(sum(value * value for value in vectors[0]) - 1) < 1e-3
    assert theirs().embeddings(MODEL, "one").embedding


@check("ollama", "list, ps, show")
def _() -> None:
    assert MODEL + ":latest" in [model.model for model in theirs().list().models]
    assert theirs().ps().models
    assert theirs().show(MODEL).modelinfo["general.architecture"] == "llama"


@check("ollama", "create, copy, delete")
def _() -> None:
    statuses = [
        part.status for part in theirs().create("new", from_=MODEL, system="S", stream=True)
    ]
    assert statuses[-1] == "success"
    theirs().copy("new", "newer")
    theirs().delete("new")
    theirs().delete("newer")


@check("ollama", "create_blob, create from files")
def _() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"no model")
        file.flush()
        digest = theirs().create_blob(file.name)
    assert digest.startswith("sha256:")
    error = refusal(lambda: theirs().create("broken", files={"x.gguf": digest}))
    assert "GGUF" in str(error)


@check("ollama", "push and pull say what is wrong")
def _() -> None:
    import ollama

    for method, name in ((theirs().push, "nope"), (theirs().pull, "127.0.0.1:9/none")):
        error = refusal(partial(method, name, insecure=True))
        assert isinstance(error, ollama.ResponseError)
        assert error.error


@check("ollama", "load and unload")
def _() -> None:
    assert theirs().generate(MODEL, keep_alive="5m").done_reason == "load"
    assert theirs().generate(MODEL, keep_alive=0).done_reason == "unload"


@check("ollama (async)", "chat, streamed; generate; embed; list; ps; show")
def _() -> None:
    import ollama

    async def main() -> None:
        client = ollama.AsyncClient(host=URL)
        texts = []
        async for part in await client.chat(MODEL, ASK, options=SHORT, stream=True):
            texts.append(part.message.content or "")
        is_paris("".join(texts))
        assert (await client.generate(MODEL, "Hi", options=SHORT)).response
        assert (await client.embed(MODEL, "Hi")).embeddings
        assert (await client.list()).models
        assert (await client.ps()).models
        assert (await client.show(MODEL)).details

    asyncio.run(main())


@check("ollama (async)", "eight chats at once")
def _() -> None:
    import ollama

    async def main() -> None:
        client = ollama.AsyncClient(host=URL)
        jobs = [client.chat(MODEL, ASK, options=SHORT) for _ in range(8)]
        for answer in await asyncio.gather(*jobs):
            is_paris(answer.message.content)

    asyncio.run(main())


# openai


def openais() -> Any:
    import openai

    return openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)


@check("openai", "chat")
def _() -> None:
    answer = openais().chat.completions.create(model=MODEL, messages=ASK, max_completion_tokens=24)
    is_paris(answer.choices[0].message.content)
    assert answer.usage.total_tokens


@check("openai", "chat, streamed, usage")
def _() -> None:
    chunks = list(
        openais().chat.completions.create(
            model=MODEL,
            messages=ASK,
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    is_paris("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
    assert chunks[-1].usage.completion_tokens


@check("openai", "n, seed, stop, logprobs, logit_bias")
def _() -> None:
    answer = openais().chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=8, n=2, seed=1, stop=["."], logprobs=True,
        top_logprobs=3, logit_bias={"5": -100}, temperature=0.7,
    )  # fmt: skip
    assert len(answer.choices) == 2
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 3


@check("openai", "structured parse")
def _() -> None:
    from pydantic import BaseModel

    class Place(BaseModel):
        city: str
        country: str

    answer = openais().chat.completions.parse(model=MODEL, messages=ASK, response_format=Place)
    assert isinstance(answer.choices[0].message.parsed, Place)


@check("openai", "tools, forced call")
def _() -> None:
    answer = openais().chat.completions.create(
        model=TOOLS_MODEL, messages=ASK, tools=[TOOL], tool_choice="required", max_tokens=100
    )
    call, *_ = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert "city" in json.loads(call.function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"


@check("openai", "tools, result given back")
def _() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    answer = openais().chat.completions.create(
        model=TOOLS_MODEL, messages=messages, tools=[TOOL], max_tokens=24
    )
    assert answer.choices[0].finish_reason


@check("openai", "completions, streamed, echo")
def _() -> None:
    make = openais().completions.create
    answer = make(model=MODEL, prompt="The capital of France is", max_tokens=4, echo=True)
    is_paris(answer.choices[0].text)
    assert list(make(model=MODEL, prompt="One two", max_tokens=4, stream=True))


@check("openai", "embeddings, float and base64")
def _() -> None:
    make = openais().embeddings.create
    plain = make(model=MODEL, input=["a", "b"], encoding_format="float").data[0].embedding
    usual = make(model=MODEL, input=["a", "b"]).data[0].embedding
    assert all(abs(a - b) < 1e-4 for a, b in zip(plain, usual, strict=True))
    assert len(make(model=MODEL, input="a", dimensions=16).data[0].embedding) == 16


@check("openai", "responses")
def _() -> None:
    answer = openais().responses.create(model=MODEL, input=QUESTION, max_output_tokens=24)
    is_paris(answer.output_text)


@check("openai", "responses, streamed")
def _() -> None:
    stream = openais().responses.create(
        model=MODEL, input=QUESTION, max_output_tokens=24, stream=True
    )
    events = [event.type for event in stream]
    assert events[0] == "response.created"
    assert events[-1] in ("response.completed", "response.incomplete")


@check("openai", "image parts in chat and responses, image URLs refused")
def _() -> None:
    import openai

    url = f"data:image/png;base64,{picture_text(9)}"

    def ask(address: str) -> Any:
        parts: Any = [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": address}},
        ]
        messages: Any = [{"role": "user", "content": parts}]
        return openais().chat.completions.create(model=EYES_MODEL, messages=messages, max_tokens=12)

    chat = ask(url)
    assert chat.choices[0].message.content
    assert chat.usage.prompt_tokens > 16
    parts: Any = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": url},
    ]
    answer = openais().responses.create(
        model=EYES_MODEL, input=[{"role": "user", "content": parts}], max_output_tokens=12
    )
    assert answer.output_text == chat.choices[0].message.content
    assert isinstance(refusal(lambda: ask("http://127.0.0.1:9/a.png")), openai.BadRequestError)


@check("openai", "models")
def _() -> None:
    assert f"{MODEL}:latest" in [model.id for model in openais().models.list()]
    assert openais().models.retrieve(MODEL).id == MODEL


@check("openai", "errors")
def _() -> None:
    import openai

    make = partial(openais().chat.completions.create, messages=ASK)
    assert isinstance(refusal(partial(make, model="nope")), openai.NotFoundError)
    hot = refusal(partial(make, model=MODEL, temperature=9))
    assert isinstance(hot, openai.BadRequestError)


# anthropic


def anthropics() -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)


@check("anthropic", "messages")
def _() -> None:
    answer = anthropics().messages.create(model=MODEL, messages=ASK, max_tokens=24)
    is_paris(answer.content[0].text)
    assert answer.stop_reason in ("end_turn", "max_tokens")


@check("anthropic", "messages, streamed")
def _() -> None:
    with anthropics().messages.stream(model=MODEL, messages=ASK, max_tokens=24) as stream:
        is_paris("".join(stream.text_stream))
        assert stream.get_final_message().usage.output_tokens


@check("anthropic", "tools, forced call, streamed")
def _() -> None:
    tool = {"name": "weather", "description": "The weather", "input_schema": PARAMETERS}
    with anthropics().messages.stream(
        model=TOOLS_MODEL, messages=ASK, max_tokens=100, tools=[tool], tool_choice={"type": "any"}
    ) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    assert "city" in message.content[-1].input


@check("anthropic", "image blocks, counted, image URLs refused")
def _() -> None:
    import anthropic

    def ask(source: dict[str, str]) -> Any:
        content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
        messages: Any = [{"role": "user", "content": content}]
        answer = anthropics().messages.create(model=EYES_MODEL, messages=messages, max_tokens=12)
        counted = anthropics().messages.count_tokens(model=EYES_MODEL, messages=messages)
        return answer, counted.input_tokens

    data = {"type": "base64", "media_type": "image/png", "data": picture_text(9)}
    answer, counted = ask(data)
    assert answer.content[0].text
    assert counted == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
    error = refusal(lambda: ask({"type": "url", "url": "http://127.0.0.1:9/a.png"}))
    assert isinstance(error, anthropic.BadRequestError)


@check("anthropic", "count_tokens")
def _() -> None:
    counted = anthropics().messages.count_tokens(model=MODEL, messages=ASK, system="Be.")
    answer = anthropics().messages.create(model=MODEL, messages=ASK, system="Be.", max_tokens=1)
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


@check("anthropic", "errors")
def _() -> None:
    import anthropic

    make = partial(anthropics().messages.create, messages=ASK, max_tokens=5)
    assert isinstance(refusal(partial(make, model="nope")), anthropic.NotFoundError)


# frameworks


@check("langchain-ollama", "ChatOllama: invoke, stream, structured output; OllamaEmbeddings")
def _() -> None:
    from langchain_ollama import ChatOllama, OllamaEmbeddings

    chat = ChatOllama(model=MODEL, base_url=URL, num_predict=64, temperature=0)
    is_paris(chat.invoke(QUESTION).content)
    is_paris("".join(chunk.content for chunk in chat.stream(QUESTION)))
    place = chat.with_structured_output(SCHEMA, method="json_schema").invoke(QUESTION)
    assert set(place) == {"city", "country"}
    assert OllamaEmbeddings(model=MODEL, base_url=URL).embed_documents(["a", "b"])


@check("litellm", "ollama_chat/, openai/: completion, streamed, embedding")
def _() -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks another site for prices
    import litellm

    for name, base in ((f"ollama_chat/{MODEL}", URL), (f"openai/{MODEL}", f"{URL}/v1")):
        common = {"model": name, "api_base": base, "api_key": "none", "messages": ASK}
        is_paris(litellm.completion(**common, max_tokens=24).choices[0].message.content)
        chunks = litellm.completion(**common, max_tokens=24, stream=True)
        is_paris("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert litellm.embedding(model=f"ollama/{MODEL}", api_base=URL, input=["a"]).data


@check("llm with llm-ollama", "models, prompt")
def _() -> None:
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "OLLAMA_HOST": URL, "LLM_USER_PATH": home}
        command = [sys.executable, "-m", "llm"]
        listed = subprocess.run([*command, "models"], env=environ, capture_output=True, text=True)
        assert MODEL in listed.stdout, listed.stderr
        # Newer versions of the plugin say `ollama/` before every name.
        name = next(word for word in listed.stdout.split() if word.endswith(f"{MODEL}:latest"))
        asked = subprocess.run(
            [*command, "-m", name, QUESTION],
            env=environ, capture_output=True, text=True,
        )  # fmt: skip
        is_paris(asked.stdout)


def main() -> int:
    failed = 0
    for client, feature, function in CHECKS:
        package = client.split(" ")[0]
        try:
            function()
            result = "yes"
        except Exception as error:  # the outermost frame of a check
            failed += 1
            result = (
                f"no: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
        line = {"client": client, "version": version(package), "feature": feature, "result": result}
        print(json.dumps(line), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
