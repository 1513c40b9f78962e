"""The syntax tree of a Go template. Pure values; the shapes are those of text/template/parse."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """Text between actions."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`."""

    position: int


@dataclass(frozen=True, slots=True)
class Nil:
    """`nil`."""

    position: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A boolean, number, rune or string."""

    value: bool | int | float | complex | str
    position: int


@dataclass(frozen=True, slots=True)
class Field:
    """`.A.B` – names without dots."""

    names: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x.A.B` – the first name has its dollar sign."""

    names: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Function:
    """The name of a function."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Chain:
    """`(…).A.B`."""

    node: Operand
    names: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Command:
    """An operand or function with its arguments."""

    args: tuple[Operand, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands from left to right, and the variables that take the result."""

    commands: tuple[Command, ...]
    variables: tuple[str, ...]
    assigns: bool
    position: int


@dataclass(frozen=True, slots=True)
class Action:
    """`{{ pipeline }}`."""

    pipe: Pipe
    position: int


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`, named by `kind`; `other` is the else part, None without one."""

    kind: str
    pipe: Pipe
    body: tuple[Node, ...]
    other: tuple[Node, ...] | None
    position: int


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    kind: str
    position: int


@dataclass(frozen=True, slots=True)
class Invoke:
    """`{{ template "name" pipeline }}`; `block` gives one too."""

    name: str
    pipe: Pipe | None
    position: int


Operand = Dot | Nil | Constant | Field | Variable | Function | Chain | Pipe
Node = Text | Action | Branch | Jump | Invoke


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed template and those that it defines by name."""

    source: str
    root: tuple[Node, ...]
    defined: dict[str, tuple[Node, ...]]
