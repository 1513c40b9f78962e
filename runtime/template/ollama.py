"""Go templates as Ollama models ship them: the names, functions and modes they are written for.

A template is filled in one of three ways: with a prompt and a suffix, where it should fill a gap;
with all messages, where it mentions `.Messages`; else turn by turn, as older templates expect, the
last turn ending where `.Response` stands. Pure but for the date, which comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from ..messages import Message, Think, ToolCall
from .collate import collate
from .go import inspect
from .go.encoding import to_json
from .go.execute import FUNCTION_NAMES, Program
from .go.functions import Function
from .go.nodes import Action, Command, Field, Pipe, Tree
from .go.parser import parse
from .go.values import GoError, JsonList, JsonMap, Struct, Words


class OllamaTemplate:
    """A compiled Go template. Any thread may render."""

    def __init__(self, source: str, *, now: Callable[[], datetime] = datetime.now) -> None:
        """Parse and compile.

        Raises:
            TemplateError: with line and column.
        """
        self.source = source
        self._functions = template_functions(now)
        tree = parse(source, FUNCTION_NAMES | set(self._functions))
        self.identifiers = inspect.identifiers(tree)
        if not self.identifiers & {"messages", "response"}:
            tree = Tree(source, (*tree.root, _RESPONSE), tree.defined)
        self._tree = tree
        self._program = Program(tree, self._functions)

    @property
    def thinking_tags(self) -> tuple[str, str] | None:
        """What stands around the model's reasoning, None for a template that knows none."""
        return inspect.thinking_tags(self._tree)

    @property
    def tool_tag(self) -> str:
        """What stands before a tool call."""
        return inspect.tool_tag(self._tree)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        think: Think = None,
    ) -> str:
        """The prompt for a conversation.

        Raises:
            TemplateError: where Go would fail too, or a bound is reached.
        """
        system, joined = collate(messages)
        if "messages" not in self.identifiers:
            return self._turn_by_turn(joined, think)
        return self._program.render(
            {
                "System": system,
                "Messages": [_message(message) for message in joined],
                "Tools": JsonList(_tool(tool) for tool in tools),
                "Response": "",
                **_thinking(think),
            }
        )

    def insert(self, prompt: str, suffix: str, *, think: Think = None) -> str:
        """The prompt for filling the gap between two texts; raises as `chat` does."""
        names = {"Prompt": prompt, "Suffix": suffix, "Response": "", **_thinking(think)}
        return self._program.render(names)

    def _turn_by_turn(self, messages: Sequence[Message], think: Think) -> str:
        parts: list[str] = []
        turn = {"System": "", "Prompt": "", "Response": ""}

        def flush(program: Program) -> None:
            parts.append(program.render({**turn, **_thinking(think)}))
            turn.update(System="", Prompt="", Response="")

        for message in messages:
            if message.role == "system":
                if turn["Prompt"] or turn["Response"]:
                    flush(self._program)
                turn["System"] = message.content
            elif message.role == "user":
                if turn["Response"]:
                    flush(self._program)
                turn["Prompt"] = message.content
            elif message.role == "assistant":
                turn["Response"] = message.content
        flush(self._last_turn)
        return "".join(parts)

    @cached_property
    def _last_turn(self) -> Program:
        """The template up to `.Response`: the model writes what follows."""
        root = inspect.cut(self._tree.root, "Response")
        return Program(Tree(self.source, root, self._tree.defined), self._functions)


_RESPONSE = Action(Pipe((Command((Field(("Response",), 0),), 0),), (), False, 0), 0)


def _thinking(think: Think) -> dict[str, Any]:
    return {
        "Think": bool(think),
        "ThinkLevel": think if isinstance(think, str) else "",
        "IsThinkSet": think is not None,
    }


def _message(message: Message) -> Struct:
    calls = [_call(call) for call in message.tool_calls]
    json = {
        "role": message.role,
        "content": message.content,
        "thinking": message.thinking,
        "tool_calls": calls,
        "tool_name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    return Struct(
        {
            "Role": message.role,
            "Content": message.content,
            "Thinking": message.thinking,
            "Images": list(message.images),
            "ToolCalls": calls,
            "ToolName": message.tool_name,
            "ToolCallID": message.tool_call_id,
        },
        json=_without_empty(json, keep=("role", "content")),
    )


def _call(call: ToolCall) -> Struct:
    arguments = JsonMap(call.arguments)
    function = Struct(
        {"Index": call.index, "Name": call.name, "Arguments": arguments},
        json={"index": call.index, "name": call.name, "arguments": arguments},
    )
    json = _without_empty({"id": call.id, "function": function}, keep=("function",))
    return Struct({"ID": call.id, "Function": function}, json=json)


def _tool(tool: Mapping[str, Any]) -> Struct:
    function = _tool_function(_mapping(tool.get("function")))
    kind, items = _text(tool.get("type")), tool.get("items")
    json = _without_empty({"type": kind, "items": items, "function": function}, keep=("type",))
    fields = {"Type": kind, "Items": items, "Function": function}
    return Struct(fields, json=json, prints_json=True)


def _tool_function(function: Mapping[str, Any]) -> Struct:
    name, description = _text(function.get("name")), _text(function.get("description"))
    parameters = _parameters(_mapping(function.get("parameters")))
    json = {"name": name, "description": description, "parameters": parameters}
    return Struct(
        {"Name": name, "Description": description, "Parameters": parameters},
        json=_without_empty(json, keep=("name", "parameters")),
        prints_json=True,
    )


def _parameters(schema: Mapping[str, Any]) -> Struct:
    properties = schema.get("properties")
    json = {
        "type": _text(schema.get("type")),
        "$defs": schema.get("$defs"),
        "items": schema.get("items"),
        "required": _list(schema.get("required")),
        "properties": None if properties is None else _properties(properties),
    }
    names = ("Type", "Defs", "Items", "Required", "Properties")
    fields = dict(zip(names, json.values(), strict=True))
    fields["Properties"] = json["properties"] or JsonMap()
    kept = _without_empty(json, keep=("type", "properties"))
    return Struct(fields, json=kept, prints_json=True)


def _properties(schemas: Any) -> JsonMap:
    return JsonMap(
        {name: _property(_mapping(schema)) for name, schema in _mapping(schemas).items()}
    )


def _property(schema: Mapping[str, Any]) -> Struct:
    kind = schema.get("type")
    properties = schema.get("properties")
    json = {
        "anyOf": [_property(_mapping(option)) for option in _list(schema.get("anyOf"))],
        "type": Words([kind] if isinstance(kind, str) else map(_text, _list(kind))),
        "items": schema.get("items"),
        "description": _text(schema.get("description")),
        "enum": _list(schema.get("enum")),
        "properties": _properties(properties) if properties else JsonMap(),
        "required": _list(schema.get("required")),
    }
    names = ("AnyOf", "Type", "Items", "Description", "Enum", "Properties", "Required")
    return Struct(dict(zip(names, json.values(), strict=True)), json=_without_empty(json))


def _without_empty(json: Mapping[str, Any], *, keep: Sequence[str] = ()) -> dict[str, Any]:
    """Go's omitempty."""
    return {
        key: value
        for key, value in json.items()
        if key in keep or isinstance(value, Struct) or value not in (None, "", [], {})
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


# Functions


def template_functions(now: Callable[[], datetime]) -> dict[str, Function]:
    """What Ollama's templates can call beside Go's own functions."""

    def one_json(args: list[Any]) -> str:
        if len(args) != 1:
            raise GoError(f"wrong number of args: want 1 got {len(args)}")
        return to_json(args[0])

    def one_type(args: list[Any]) -> str:
        if len(args) != 1:
            raise GoError(f"wrong number of args: want 1 got {len(args)}")
        return _typescript(args[0])

    return {
        "json": one_json,
        "currentDate": lambda args: now().strftime("%Y-%m-%d"),
        "yesterdayDate": lambda args: (now() - timedelta(days=1)).strftime("%Y-%m-%d"),
        "toTypeScriptType": one_type,
    }


_TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _typescript(value: Any) -> str:
    """The TypeScript type of a tool's property."""
    if not isinstance(value, Struct) or "AnyOf" not in value.fields:
        return "any"
    if value.fields["AnyOf"]:
        return " | ".join(map(_typescript, value.fields["AnyOf"]))
    names = [_TYPESCRIPT.get(kind, "any") for kind in value.fields["Type"]]
    return " | ".join(names) or "any"
