"""Executes a Go template: the tree becomes closures once, which then run for each rendering. Pure.

Closures are about three times as fast as walking the tree; a 20-message chat takes well under a
millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import TemplateError
from .functions import BUILTINS, Function
from .literals import MOST_INT
from .machine import (
    MAX_DEPTH,
    NOTHING,
    Run,
    Statement,
    Value,
    fails,
    field_chain,
    items,
    piped,
    short_circuit,
    weight,
)
from .machine import Command as Stage
from .nodes import (
    Action,
    Branch,
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Invoke,
    Jump,
    Nil,
    Node,
    Operand,
    Pipe,
    Text,
    Tree,
    Variable,
)
from .nodes import Function as FunctionName
from .printing import show
from .scope import Scope
from .values import NIL, GoError, is_true

FUNCTION_NAMES = frozenset({*BUILTINS, "and", "or"})


class Program:
    """A compiled template. Immutable after construction; any thread may render."""

    def __init__(self, tree: Tree, functions: Mapping[str, Function] | None = None) -> None:
        """Compile with `functions` beside Go's own.

        Raises:
            TemplateError: where a function or template is used wrongly beyond doubt.
        """
        self._functions = {**BUILTINS, **(functions or {})}
        self._templates: dict[str, tuple[Statement, int]] = {}
        try:
            for name, nodes in tree.defined.items():
                self._templates[name] = self._compile(nodes)
            self._root, self._size = self._compile(tree.root)
        except RecursionError as error:
            raise TemplateError("nested too deeply") from error

    def render(self, data: Any) -> str:
        """The text for this data.

        Raises:
            TemplateError: where Go's execution would fail, or a bound is reached.
        """
        run = Run([data, *([None] * self._size)])
        try:
            self._root(run, data)
        except GoError as error:
            raise TemplateError(str(error)) from error
        except RecursionError as error:
            raise TemplateError("nested too deeply") from error
        return "".join(run.parts)

    def _compile(self, nodes: Sequence[Node]) -> tuple[Statement, int]:
        compiler = _Compiler(self._functions, self._templates)
        return compiler.block(nodes), compiler.size


class _Compiler:
    """Compiles one template body; knows which variable lives in which slot of the frame."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        templates: Mapping[str, tuple[Statement, int]],
    ) -> None:
        self._functions = functions
        self._templates = templates
        self._scope = Scope()

    @property
    def size(self) -> int:
        """Variables that the frame must hold, beside `$`."""
        return self._scope.size

    # Statements

    def block(self, nodes: Sequence[Node]) -> Statement:
        """Nodes in sequence; a jump of one ends them."""
        statements = tuple(self._statement(node) for node in nodes)
        cost = len(statements) + 1

        def run_all(run: Run, dot: Any) -> str | None:
            run.steps -= cost
            if run.steps < 0:
                run.spend(0)
            for statement in statements:
                jump = statement(run, dot)
                if jump is not None:
                    return jump
            return None

        return run_all

    def _statement(self, node: Node) -> Statement:
        match node:
            case Text():
                return self._text(node.text)
            case Action():
                return self._action(node)
            case Jump():
                kind = node.kind
                return lambda run, dot: kind
            case Invoke():
                return self._invoke(node)
            case Branch(kind="range"):
                return self._range(node)
        return self._choice(node)

    def _text(self, text: str) -> Statement:
        def write(run: Run, dot: Any) -> None:
            run.write(text)

        return write

    def _action(self, node: Action) -> Statement:
        pipe = self._pipe(node.pipe)
        if node.pipe.variables:

            def assign(run: Run, dot: Any) -> None:
                pipe(run, dot)

            return assign

        def write(run: Run, dot: Any) -> None:
            run.write(show(pipe(run, dot)))

        return write

    def _choice(self, node: Branch) -> Statement:
        outer = self._scope.enter()
        pipe = self._pipe(node.pipe)
        body = self.block(node.body)
        other = self.block(node.other or ())
        self._scope.leave(outer)
        if node.kind == "with":

            def with_(run: Run, dot: Any) -> str | None:
                value = pipe(run, dot)
                return body(run, value) if is_true(value) else other(run, dot)

            return with_

        def if_(run: Run, dot: Any) -> str | None:
            return body(run, dot) if is_true(pipe(run, dot)) else other(run, dot)

        return if_

    def _range(self, node: Branch) -> Statement:
        outer = self._scope.enter()
        pipe = self._pipe(node.pipe)
        slots = self._range_slots(node.pipe)
        body = self.block(node.body)
        other = self.block(node.other or ())
        self._scope.leave(outer)
        element_slot = slots[-1] if slots else -1
        key_slot = slots[0] if len(slots) > 1 else -1

        def range_(run: Run, dot: Any) -> str | None:
            pairs = items(run, pipe(run, dot), pairs=key_slot >= 0)
            empty = True
            for key, value in pairs:
                empty = False
                element = NIL if value is None else value
                if key_slot >= 0:
                    run.frame[key_slot] = key
                if element_slot >= 0:
                    run.frame[element_slot] = element
                if body(run, element) == "break":
                    break
            return other(run, dot) if empty else None

        return range_

    def _range_slots(self, pipe: Pipe) -> list[int]:
        """Where the key and the element go; both may have one name, and two places all the same."""
        if pipe.assigns:
            # A variable that was never declared fails before its slot is used.
            return [self._scope.slot(name) or 0 for name in pipe.variables]
        return [self._scope.size - back for back in reversed(range(len(pipe.variables)))]

    def _invoke(self, node: Invoke) -> Statement:
        pipe = self._pipe(node.pipe) if node.pipe else None
        name, templates = node.name, self._templates

        def invoke(run: Run, dot: Any) -> None:
            value = pipe(run, dot) if pipe else None
            if name not in templates:
                raise GoError(f"template {name!r} not defined")
            if run.depth == MAX_DEPTH:
                raise GoError(f"exceeded maximum template depth ({MAX_DEPTH})")
            body, size = templates[name]
            run.spend(1 + size // 64)
            frame = run.frame
            run.frame = [value, *([None] * size)]
            run.depth += 1
            body(run, value)
            run.depth -= 1
            run.frame = frame

        return invoke

    # Pipelines

    def _pipe(self, node: Pipe) -> Value:
        commands = [self._command(command) for command in node.commands]
        value = piped(commands)
        if not node.variables:
            return value
        if not node.assigns:
            for name in node.variables:
                self._scope.declare(name)
        slots = [slot for name in node.variables if (slot := self._scope.slot(name)) is not None]
        lacks = len(slots) < len(node.variables)

        def assign(run: Run, dot: Any) -> Any:
            result = value(run, dot)
            if lacks:
                raise GoError(f"undefined variable: {' or '.join(node.variables)}")
            for slot in slots:
                run.frame[slot] = result
            return result

        return assign

    def _command(self, node: Command) -> Stage:
        first, rest = node.args[0], node.args[1:]
        if isinstance(first, FunctionName):
            return self._call(first, rest)
        if isinstance(first, Nil):
            return fails("nil is not a command")
        value = self._operand(first)
        is_field = isinstance(first, Field | Chain) or (
            isinstance(first, Variable) and len(first.names) > 1
        )
        if rest and not is_field:
            return fails("cannot give arguments to a non-function")

        def operand(run: Run, dot: Any, final: Any) -> Any:
            result = value(run, dot)
            if (rest or final is not NOTHING) and not (is_field and result is None):
                raise GoError("cannot give arguments to a non-function")
            return result

        return operand

    def _call(self, node: FunctionName, args: Sequence[Operand]) -> Stage:
        operands = tuple(self._operand(arg) for arg in args)
        if node.name in ("and", "or"):
            return short_circuit(operands, node.name == "or")
        function, name = self._functions[node.name], node.name

        def call(run: Run, dot: Any, final: Any) -> Any:
            values = [operand(run, dot) for operand in operands]
            if final is not NOTHING:
                values.append(final)
            try:
                result = function(values)
            except GoError as error:
                raise GoError(f"error calling {name}: {error}") from error
            run.spend(1 + weight(values, result))
            return result

        return call

    def _operand(self, node: Operand) -> Value:
        match node:
            case Dot():
                return lambda run, dot: dot
            case Nil():
                return lambda run, dot: None
            case Constant():
                return _constant(node.value)
            case Field():
                return field_chain(lambda run, dot: dot, node.names)
            case Variable():
                slot = self._scope.slot(node.names[0])
                assert slot is not None
                return field_chain(lambda run, dot: run.frame[slot], node.names[1:])
            case Chain():
                return field_chain(self._operand(node.node), node.names)
            case Pipe():
                return self._pipe(node)
        command = self._call(node, ())
        return lambda run, dot: command(run, dot, NOTHING)


def _constant(value: Any) -> Value:
    if isinstance(value, int) and value > MOST_INT:
        failing = fails(f"{value} overflows int")
        return lambda run, dot: failing(run, dot, NOTHING)
    return lambda run, dot: value
