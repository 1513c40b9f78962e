"""Messages, tools and calls as the Go structs that Ollama gives to its templates. Pure.

Only tools, their properties and a call's arguments have names of their own in JSON, and print as
JSON; what has not is written field by field, under the names that templates use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import Message, ToolCall
from .go.values import JsonList, JsonMap, NilMap, Slice, Struct, Words


def go_messages(messages: Sequence[Message]) -> Slice:
    """`.Messages`."""
    return Slice(_message(message) for message in messages)


def go_tools(tools: Sequence[Mapping[str, Any]]) -> JsonList:
    """`.Tools`."""
    return JsonList(_tool(tool) for tool in tools)


def _message(message: Message) -> Struct:
    return Struct(
        {
            "Role": message.role,
            "Content": message.content,
            "Thinking": message.thinking,
            "Images": Slice(message.images),
            "ToolCalls": Slice(_call(call) for call in message.tool_calls),
            "ToolName": message.tool_name,
            "ToolCallID": message.tool_call_id,
        }
    )


def _call(call: ToolCall) -> Struct:
    function = {"Index": call.index, "Name": call.name, "Arguments": JsonMap(call.arguments)}
    return Struct({"ID": call.id, "Function": Struct(function)})


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
    fields = {"Name": name, "Description": description, "Parameters": parameters}
    return Struct(fields, json=json)


def _parameters(schema: Mapping[str, Any]) -> Struct:
    properties = schema.get("properties")
    json = {
        "type": _text(schema.get("type")),
        "$defs": schema.get("$defs"),
        "items": schema.get("items"),
        "required": _slice(schema.get("required")),
        "properties": None if properties is None else _properties(properties),
    }
    names = ("Type", "Defs", "Items", "Required", "Properties")
    fields = dict(zip(names, json.values(), strict=True))
    fields["Properties"] = NilMap() if properties is None else json["properties"]
    return Struct(fields, json=_without_empty(json, keep=("type", "properties")))


def _properties(schemas: Any) -> JsonMap:
    return JsonMap(
        {name: _property(_mapping(schema)) for name, schema in _mapping(schemas).items()}
    )


def _property(schema: Mapping[str, Any]) -> Struct:
    kind = schema.get("type")
    properties = schema.get("properties")
    nested = None if properties is None else _properties(properties)
    json: dict[str, Any] = {
        "anyOf": Slice(_property(_mapping(option)) for option in _slice(schema.get("anyOf"))),
        "type": Words([kind] if isinstance(kind, str) else map(_text, _slice(kind))),
        "items": schema.get("items"),
        "description": _text(schema.get("description")),
        "enum": _slice(schema.get("enum")),
        "properties": nested,
        "required": _slice(schema.get("required")),
    }
    names = ("AnyOf", "Type", "Items", "Description", "Enum", "Properties", "Required")
    fields = dict(zip(names, json.values(), strict=True))
    # Within a property they keep the order that the client gave them.
    json["properties"] = None if nested is None else Struct(nested)
    return Struct(fields, json=_without_empty(json))


def _without_empty(json: Mapping[str, Any], *, keep: Sequence[str] = ()) -> dict[str, Any]:
    """Go's omitempty."""
    return {
        key: value
        for key, value in json.items()
        if key in keep or isinstance(value, Struct) or value not in (None, "", [], {})
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _slice(value: Any) -> list[Any]:
    return value if isinstance(value, list) else Slice()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
