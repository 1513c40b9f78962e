"""What a Go template's tree tells without running it. Pure.

The rules are Ollama's, which reads a model's abilities and its output format off its template.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .nodes import Action, Branch, Chain, Field, Invoke, Node, Operand, Pipe, Text, Tree, Variable


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
    """The nodes up to and with the first action that prints a field `name`, nothing after it."""
    kept, _ = _cut(nodes, name)
    return kept


def _cut(nodes: Sequence[Node], name: str) -> tuple[tuple[Node, ...], bool]:
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Action) and name in _names_in_pipe(node.pipe):
            return (*kept, node), True
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


def thinking_tags(tree: Tree) -> tuple[str, str] | None:
    """What a range over the messages writes around `.Thinking`; None where it does not."""
    found = list(_around_thinking(tree.root, in_messages=False))
    return found[-1] if found else None


def _around_thinking(nodes: Sequence[Node], *, in_messages: bool) -> Iterator[tuple[str, str]]:
    for node in nodes:
        if isinstance(node, Action) and in_messages and _ends_with(node.pipe, "Thinking"):
            tags = _first_and_last_text(nodes)
            if tags:
                yield tags
        if isinstance(node, Branch):
            inside = in_messages
            if node.kind == "range":
                inside = "Messages" in _names_in_pipe(node.pipe)
            yield from _around_thinking(node.body, in_messages=inside)
            yield from _around_thinking(node.other or (), in_messages=inside)


def _ends_with(pipe: Pipe, name: str) -> bool:
    return any(
        isinstance(operand, Field | Variable) and operand.names[-1] == name
        for operand in _operands(pipe)
    )


def _first_and_last_text(nodes: Sequence[Node]) -> tuple[str, str] | None:
    first, last = nodes[0], nodes[-1]
    if isinstance(first, Text) and isinstance(last, Text):
        opening, closing = first.text.strip(), last.text.strip()
        return (opening, closing) if opening and closing else None
    return None


def tool_tag(tree: Tree) -> str:
    """What the template writes before a tool call; `{` where a call is a bare JSON object."""
    branch = _first_tool_branch(tree.root)
    text = _first_text(branch.body) if branch else ""
    return text.replace("\r\n", "\n").partition("{")[0].strip() or "{"


def _first_tool_branch(nodes: Sequence[Node]) -> Branch | None:
    for node in nodes:
        if not isinstance(node, Branch):
            continue
        if node.kind == "if" and "ToolCalls" in _names_in_pipe(node.pipe):
            return node
        found = _first_tool_branch(node.body) or _first_tool_branch(node.other or ())
        if found:
            return found
    return None


def _first_text(nodes: Sequence[Node]) -> str:
    for node in nodes:
        if isinstance(node, Text) and node.text.strip():
            return node.text
        if isinstance(node, Branch):
            text = _first_text(node.body) or _first_text(node.other or ())
            if text:
                return text
    return ""
