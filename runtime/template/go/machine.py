"""The parts that a compiled Go template is made of, and the state of one run of it. Pure.

A run is bounded in steps, depth and output, and text that functions make counts as steps by its
size, so that a hostile template ends with an error and not with the machine's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .values import NIL, GoError, OpenMap, Struct, is_true, type_name

MAX_STEPS = 500_000  # a chat of 1000 messages takes about 20 000; these take a second or two
MAX_OUTPUT = 4 * 1024 * 1024  # characters
MAX_DEPTH = 50  # templates calling templates
_CHARACTERS_PER_STEP = 256
_KEYS_PER_STEP = 8  # of a map that is sorted to be walked


@dataclass(slots=True)
class Run:
    """One rendering. `frame` holds the variables of the template that runs now, `$` first."""

    frame: list[Any]
    parts: list[str] = field(default_factory=list)
    steps: int = MAX_STEPS
    room: int = MAX_OUTPUT
    depth: int = 0

    def write(self, text: str) -> None:
        """Add to the output; GoError where it gets too long."""
        self.room -= len(text)
        if self.room < 0:
            raise GoError(f"writes more than {MAX_OUTPUT} characters")
        self.parts.append(text)

    def spend(self, steps: int) -> None:
        """Count work; GoError where it gets too much."""
        self.steps -= steps
        if self.steps < 0:
            raise GoError("takes too many steps")


# What a part of a template becomes. Statements return the jump that ends them, mostly None.
Value = Callable[[Run, Any], Any]
Statement = Callable[[Run, Any], str | None]
# A stage of a pipeline: its last argument comes from the stage before, or is NOTHING.
Command = Callable[[Run, Any, Any], Any]
NOTHING: Any = object()  # no value comes from the pipeline


def fails(reason: str) -> Command:
    """What is wrong only where it is executed, as in Go."""

    def fail(run: Run, dot: Any, final: Any) -> Any:
        raise GoError(reason)

    return fail


def piped(commands: Sequence[Command]) -> Value:
    """One function for a pipeline; each command's result is the next one's last argument."""
    if len(commands) == 1:
        only = commands[0]

        def one(run: Run, dot: Any) -> Any:
            value = only(run, dot, NOTHING)
            return None if value is NIL else value

        return one

    def several(run: Run, dot: Any) -> Any:
        value = NOTHING
        for command in commands:
            value = command(run, dot, value)
            value = None if value is NIL else value
        return value

    return several


def short_circuit(operands: Sequence[Value], stop_at: bool) -> Command:
    """`and` and `or`: the first operand that decides, else the last one."""

    def choose(run: Run, dot: Any, final: Any) -> Any:
        value = NOTHING
        for operand in operands:
            value = operand(run, dot)
            if is_true(value) == stop_at:
                return value
        value = value if final is NOTHING else final
        if value is NOTHING:
            raise GoError("wrong number of args: want at least 1 got 0")
        return value

    return choose


def field_chain(start: Value, names: Sequence[str]) -> Value:
    """The fields `names` of what `start` gives, one of the other."""
    if not names:
        return start
    if len(names) == 1:
        only = names[0]
        return lambda run, dot: _field(start(run, dot), only)

    def walk(run: Run, dot: Any) -> Any:
        value = start(run, dot)
        for name in names:
            value = _field(value, name)
        return value

    return walk


def _field(receiver: Any, name: str) -> Any:
    """One step of `.A.B`: None stays None, what a map lacks is NIL, and NIL has no fields."""
    if isinstance(receiver, dict):
        value = receiver.get(name)
        if value is None:
            return None if isinstance(receiver, OpenMap) else NIL
        return value
    if isinstance(receiver, Struct) and name in receiver.fields:
        value = receiver.fields[name]
        return NIL if value is None else value
    if receiver is None:
        return None
    if receiver is NIL:
        raise GoError(f"nil pointer evaluating interface {{}}.{name}")
    raise GoError(f"cannot evaluate field {name} in type {type_name(receiver)}")


def items(run: Run, value: Any, *, pairs: bool) -> Any:
    """Key and value of each iteration."""
    if isinstance(value, list | bytes):
        return enumerate(value)
    if isinstance(value, dict):
        run.spend(len(value) // _KEYS_PER_STEP)
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        if pairs:
            raise GoError(f"cannot use {value} to iterate over more than one variable")
        return ((number, number) for number in range(value))
    if value is None:
        return ()
    raise GoError(f"range cannot iterate over {type_name(value)}")


def weight(values: Sequence[Any], result: Any) -> int:
    """Steps for the text that a function read and made.

    Raises:
        GoError: where the result is larger than any output may be.
    """
    size = sum(len(value) for value in values if isinstance(value, str | list | dict))
    if isinstance(result, str):
        if len(result) > MAX_OUTPUT:
            raise GoError(f"makes a text of more than {MAX_OUTPUT} characters")
        size += len(result)
    return size // _CHARACTERS_PER_STEP
