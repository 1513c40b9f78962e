"""What a Go template's tree tells without running it. Pure.

The rules are Ollama's, which reads a model's abilities and its output format off its template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from .nodes import (
    Action,
    Branch,
    Chain,
    Field,
    Invoke,
    Jump,
    Node,
    Operand,
    Pipe,
    Text,
    Tree,
    Variable,
)


def identifiers(tree: Tree) -> frozenset[str]:
    """All field and variable names of the template and of those it defines, in lower case."""
    bodies = (tree.root, *tree.defined.values())
    return frozenset(name.lower() for body in bodies for name in _names(body))


def _names(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Action | Branch | Invoke) and node.pipe:
            yield from _names_in_pipe(node.pipe)
        if isinstance(node, Branch):
            yield from _names(node.body)
            yield from _names(node.other or ())


def _names_in_pipe(pipe: Pipe) -> Iterator[str]:
    for operand in _operands(pipe):
        if isinstance(operand, Field | Variable):
            yield from operand.names


def _operands(pipe: Pipe) -> Iterator[Operand]:
    """All operands, those within parentheses after the parentheses themselves."""
    for command in pipe.commands:
        for operand in command.args:
            yield operand
            inner = operand.node if isinstance(operand, Chain) else operand
            if isinstance(inner, Pipe):
                yield from _operands(inner)
            elif inner is not operand:
                yield inner


def cut(nodes: Sequence[Node], name: str) -> tuple[Node, ...]:
    """The nodes up to and with the first action that mentions a field `name`, nothing after it.

    The action itself is cut too: of its pipeline stays what stands before the field, and the field.
    """
    kept, _ = _cut(nodes, name)
    return kept


def _cut(nodes: Sequence[Node], name: str) -> tuple[tuple[Node, ...], bool]:
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Action):
            pipe, found = _cut_pipe(node.pipe, name)
            if found:
                return (*kept, *([] if pipe is None else [replace(node, pipe=pipe)])), True
        if isinstance(node, Branch):
            body, found = _cut(node.body, name)
            other: tuple[Node, ...] = ()
            if not found and node.other:
                other, found = _cut(node.other, name)
            kept.append(Branch(node.kind, node.pipe, body, other, node.position))
            if found:
                return tuple(kept), True
            continue
        kept.append(node)
    return tuple(kept), False


def _cut_pipe(pipe: Pipe, name: str) -> tuple[Pipe | None, bool]:
    """The pipeline up to the field; None where a command after it loses all that it had."""
    for place, command in enumerate(pipe.commands):
        for count, operand in enumerate(command.args):
            inner: Operand | None = operand
            found = isinstance(operand, Field) and name in operand.names
            if isinstance(operand, Pipe):
                inner, found = _cut_pipe(operand, name)
            if not found:
                continue
            args = (*command.args[:count], *([] if inner is None else [inner]))
            if not args or place + 1 < len(pipe.commands):
                return None, True
            return replace(
                pipe, commands=(*pipe.commands[:place], replace(command, args=args))
            ), True
    return pipe, False


def thinking_tags(tree: Tree) -> tuple[str, str] | None:
    """What a range over the messages writes around `.Thinking`; None where it does not.

    Ollama's rule sees fields only; where it finds nothing, reasoning that is reached through a
    variable (`$message.Thinking`) counts as well.
    """
    return _tags(tree, Field) or _tags(tree, Field | Variable)


def _tags(tree: Tree, kinds: Any) -> tuple[str, str] | None:
    opening = closing = ""
    for nodes in _lists_with_thinking(tree.root, kinds, in_messages=False):
        first, last = nodes[0], nodes[-1]
        opening = first.text.strip() if isinstance(first, Text) else opening
        closing = last.text.strip() if isinstance(last, Text) else closing
    return (opening, closing) if opening and closing else None


def _lists_with_thinking(
    nodes: Sequence[Node], kinds: Any, *, in_messages: bool
) -> Iterator[Sequence[Node]]:
    """The lists whose own pipelines mention `.Thinking`, the outer ones first."""
    for node in nodes:
        if isinstance(node, Text | Jump) or node.pipe is None:
            continue
        inside = in_messages
        if isinstance(node, Branch) and node.kind == "range":
            inside = _mentions(node.pipe, "Messages", kinds)
        if inside and _mentions(node.pipe, "Thinking", kinds):
            yield nodes
        if isinstance(node, Branch):
            yield from _lists_with_thinking(node.body, kinds, in_messages=inside)
            yield from _lists_with_thinking(node.other or (), kinds, in_messages=inside)


def _mentions(pipe: Pipe, name: str, kinds: Any) -> bool:
    return any(
        isinstance(operand, kinds) and [n for n in operand.names if n[0] != "$"][:1] == [name]
        for operand in _operands(pipe)
    )


def tool_tag(tree: Tree) -> str:
    """What the template writes before a tool call; `{` where a call is a bare JSON object.

    Ollama's rule wants `.ToolCalls` as an argument of an `if`; where there is none, a mention in
    parentheses or through a variable will do.
    """
    branch = _first_branch(tree.root, _asks_for_calls) or _first_branch(tree.root, _mentions_calls)
    text = _first_text(branch.body) if branch else ""
    return (text or "").replace("\r\n", "\n").partition("{")[0].strip() or "{"


def _asks_for_calls(pipe: Pipe) -> bool:
    return any(
        isinstance(operand, Field) and "ToolCalls" in operand.names
        for command in pipe.commands
        for operand in command.args
    )


def _mentions_calls(pipe: Pipe) -> bool:
    return "ToolCalls" in _names_in_pipe(pipe)


def _first_branch(nodes: Sequence[Node], asks: Callable[[Pipe], bool]) -> Branch | None:
    for node in nodes:
        if not isinstance(node, Branch):
            continue
        if node.kind == "if" and asks(node.pipe):
            return node
        found = _first_branch(node.body, asks) or _first_branch(node.other or (), asks)
        if found:
            return found
    return None


def _first_text(nodes: Sequence[Node]) -> str | None:
    """The first text that is not blank; None where something else is printed before it."""
    for node in nodes:
        if isinstance(node, Text):
            if node.text.strip():
                return node.text
        elif isinstance(node, Branch):
            return _first_text(node.body) or _first_text(node.other or ())
        elif isinstance(node, Action):
            return None
    return None
