"""Go templates as Ollama models ship them: the names, functions and modes they are written for.

A template is filled in one of three ways: with a prompt and a suffix, where it should fill a gap;
with all messages, where it mentions `.Messages`; else turn by turn, as older templates expect, the
last turn ending where `.Response` stands. Pure but for the date, which comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any

from ..messages import Message, Think
from .collate import collate
from .go import inspect
from .go.encoding import to_json
from .go.execute import FUNCTION_NAMES, Program
from .go.functions import Function
from .go.nodes import Action, Command, Field, Pipe, Tree
from .go.parser import parse
from .go.values import GoError, OpenMap, Struct
from .structs import go_messages, go_tools


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
                "Messages": go_messages(joined),
                "Tools": go_tools(tools),
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

        def flush(program: Program, kind: type[dict[str, Any]] = dict) -> None:
            parts.append(program.render(kind({**turn, **_thinking(think)})))
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
        flush(self._last_turn, OpenMap)
        return "".join(parts)

    @cached_property
    def _last_turn(self) -> Program:
        """The template up to `.Response`: the model writes what follows."""
        root = inspect.cut(self._tree.root, "Response")
        return Program(Tree(self.source, root, self._tree.defined), self._functions)


_RESPONSE = Action(Pipe((Command((Field(("Response",), 0),), 0),), (), False, 0), 0)


def _thinking(think: Think) -> dict[str, Any]:
    level = think if isinstance(think, str) else "medium" if think else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


# Functions


def template_functions(now: Callable[[], datetime]) -> dict[str, Function]:
    """What Ollama's templates can call beside Go's own functions."""

    def one_json(args: list[Any]) -> str:
        if len(args) != 1:
            raise GoError(f"wrong number of args: want 1 got {len(args)}")
        try:
            return to_json(args[0])
        except GoError:
            return ""  # as Ollama, for what JSON cannot say

    def one_type(args: list[Any]) -> str:
        if len(args) != 1:
            raise GoError(f"wrong number of args: want 1 got {len(args)}")
        return _typescript(args[0])

    def date(args: list[Any], *, ago: int) -> str:
        # A format may be given, and is not looked at.
        if not all(isinstance(arg, str) for arg in args):
            raise GoError("wrong type for value; expected string")
        return (now() - timedelta(days=ago)).strftime("%Y-%m-%d")

    return {
        "json": one_json,
        "currentDate": partial(date, ago=0),
        "yesterdayDate": partial(date, ago=1),
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
