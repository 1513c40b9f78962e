"""Parses a Go template into `nodes.Tree`, by the grammar of Go's text/template/parse. Pure."""

from __future__ import annotations

from collections.abc import Collection

from ...errors import TemplateError
from . import literals
from .lexer import Kind, Token, error_at, tokens
from .nodes import (
    Action,
    Branch,
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Function,
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
from .scope import Scope

MAX_SOURCE = 256 * 1024  # characters; the longest template in the public library has under 20 000
MAX_NESTING = 100  # actions and parentheses within each other; keeps recursion far from its limit

_OPERANDS = frozenset(
    {
        Kind.BOOL,
        Kind.RUNE,
        Kind.DOT,
        Kind.FIELD,
        Kind.IDENTIFIER,
        Kind.NUMBER,
        Kind.STRING,
        Kind.VARIABLE,
        Kind.OPEN,
    }
)


def parse(source: str, functions: Collection[str]) -> Tree:
    """The tree of a template that may call these functions.

    Raises:
        TemplateError: with line and column.
    """
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"{len(source)} characters, more than {MAX_SOURCE}")
    return _Parser(source, functions).tree()


class _Parser:
    def __init__(self, source: str, functions: Collection[str]) -> None:
        self._source = source
        self._functions = functions
        self._tokens = list(tokens(source))
        self._next = 0
        self._scope = Scope()
        self._range_depth = 0
        self._nesting = 0
        self._defined: dict[str, tuple[Node, ...]] = {}

    def tree(self) -> Tree:
        nodes: list[Node] = []
        while self._peek().kind is not Kind.END:
            following = self._tokens[self._next : self._next + 3]
            words = [token for token in following if token.kind is not Kind.SPACE]
            if len(words) > 1 and words[0].kind is Kind.LEFT and words[1].text == "define":
                self._definition()
                continue
            node = self._text_or_action()
            if isinstance(node, Token):
                raise self._unexpected(node, "input")
            nodes.append(node)
        # The whole template has a name too, the empty one.
        self._add("", tuple(nodes))
        return Tree(self._source, self._defined[""], self._defined)

    # Lists of nodes

    def _definition(self) -> None:
        self._take_word()
        self._take_word()
        name = self._template_name("define clause")
        self._expect(Kind.RIGHT, "define clause")
        self._add(name, self._separate_list())

    def _separate_list(self) -> tuple[Node, ...]:
        """The body of a define or block: it sees no variables and no loop from outside."""
        scope, depth = self._scope, self._range_depth
        self._scope, self._range_depth = Scope(), 0
        nodes, end = self._list()
        if end.text != "end":
            raise self._unexpected(end, "define clause")
        self._expect(Kind.RIGHT, "end")
        self._scope, self._range_depth = scope, depth
        return nodes

    def _add(self, name: str, nodes: tuple[Node, ...]) -> None:
        if not _is_empty(self._defined.get(name, ())):
            if not _is_empty(nodes):
                raise self._error(f"multiple definition of template {name!r}")
            return
        self._defined[name] = nodes

    def _list(self) -> tuple[tuple[Node, ...], Token]:
        """Nodes up to `end` or `else`, and that word, whose action is not yet closed."""
        self._enter()
        nodes: list[Node] = []
        while self._peek().kind is not Kind.END:
            node = self._text_or_action()
            if isinstance(node, Token):
                self._nesting -= 1
                return tuple(nodes), node
            nodes.append(node)
        raise self._error("unexpected end of the template: an {{end}} is missing")

    def _text_or_action(self) -> Node | Token:
        token = self._take_word()
        if token.kind is Kind.TEXT:
            return Text(token.text, token.position)
        if token.kind is not Kind.LEFT:
            raise self._unexpected(token, "input")
        return self._action()

    def _action(self) -> Node | Token:
        token = self._peek_word()
        if token.kind is not Kind.KEYWORD or token.text == "nil":
            return Action(self._pipeline("command", Kind.RIGHT), token.position)
        self._take_word()
        match token.text:
            case "if" | "with" | "range":
                return self._control(token)
            case "else" | "end":
                return token
            case "break" | "continue":
                self._expect(Kind.RIGHT, f"{{{{{token.text}}}}}")
                if not self._range_depth:
                    raise self._error(f"{{{{{token.text}}}}} outside {{{{range}}}}", token)
                return Jump(token.text, token.position)
            case "template" | "block":
                return self._invoke(token)
        raise self._unexpected(token, "command")

    def _control(self, word: Token) -> Branch:
        outer = self._scope.enter()
        pipe = self._pipeline(word.text, Kind.RIGHT)
        self._range_depth += word.text == "range"
        body, end = self._list()
        self._range_depth -= word.text == "range"
        other: tuple[Node, ...] | None = None
        if end.text == "else":
            other = self._otherwise(word, end)
        else:
            self._expect(Kind.RIGHT, "end")
        self._scope.leave(outer)
        return Branch(word.text, pipe, body, other, word.position)

    def _otherwise(self, word: Token, end: Token) -> tuple[Node, ...]:
        """What follows `else`; `else if` within if, and `else with` within with, share its end."""
        chained = self._peek_word()
        if chained.kind is Kind.KEYWORD and chained.text in ("if", "with"):
            if chained.text != word.text:
                raise self._unexpected(chained, "else")
            self._enter()
            branch = self._control(self._take_word())
            self._nesting -= 1
            return (branch,)
        self._expect(Kind.RIGHT, "else")
        nodes, end = self._list()
        if end.text != "end":
            raise self._error("expected {{end}}, found {{else}}", end)
        self._expect(Kind.RIGHT, "end")
        return nodes

    def _invoke(self, word: Token) -> Invoke:
        context = f"{word.text} clause"
        name = self._template_name(context)
        if word.text == "block":
            pipe = self._pipeline(context, Kind.RIGHT)
            self._add(name, self._separate_list())
            return Invoke(name, pipe, word.position)
        if self._peek_word().kind is Kind.RIGHT:
            self._take_word()
            return Invoke(name, None, word.position)
        return Invoke(name, self._pipeline(context, Kind.RIGHT), word.position)

    def _template_name(self, context: str) -> str:
        token = self._take_word()
        if token.kind is not Kind.STRING:
            raise self._unexpected(token, context)
        return str(self._literal(token))

    # Pipelines

    def _pipeline(self, context: str, end: Kind) -> Pipe:
        self._enter()
        start = self._peek_word()
        variables, assigns = self._variables(context)
        commands: list[Command] = []
        while (token := self._peek_word()).kind is not end:
            if token.kind not in _OPERANDS and token.text != "nil":
                raise self._unexpected(token, context)
            commands.append(self._command())
        self._take_word()
        if not commands:
            raise self._error(f"missing value for {context}", start)
        for command in commands[1:]:
            if isinstance(command.args[0], Constant | Dot | Nil):
                raise self._error("non executable command in pipeline", start)
        self._nesting -= 1
        return Pipe(tuple(commands), variables, assigns, start.position)

    def _variables(self, context: str) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =` or, in a range, `$i, $x :=`; nothing is taken where neither follows."""
        names: list[str] = []
        while self._peek_word().kind is Kind.VARIABLE:
            back = self._next
            name = self._take_word()
            sign = self._peek_word()
            if sign.kind in (Kind.DECLARE, Kind.ASSIGN):
                self._take_word()
                names.append(name.text)
                if sign.kind is Kind.DECLARE:
                    for declared in names:
                        self._scope.declare(declared)
                return tuple(names), sign.kind is Kind.ASSIGN
            if sign.kind is not Kind.COMMA:
                self._next = back
                break
            self._take_word()
            names.append(name.text)
            if context != "range" or len(names) > 1:
                raise self._error(f"too many declarations in {context}", sign)
            if self._peek_word().kind is not Kind.VARIABLE:
                raise self._error("range can only initialize variables", sign)
        if names:
            raise self._unexpected(self._peek_word(), context)
        return (), False

    def _command(self) -> Command:
        start = self._peek_word()
        args: list[Operand] = []
        while True:
            if self._peek_word().kind in _OPERANDS or self._peek_word().text == "nil":
                args.append(self._operand())
            token = self._take()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.CLOSE):
                self._next -= 1
            elif token.kind is not Kind.PIPE:
                raise self._unexpected(token, "operand")
            break
        if not args:
            raise self._error("empty command", start)
        return Command(tuple(args), start.position)

    def _operand(self) -> Operand:
        node = self._term()
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._take().text[1:])
        if not names:
            return node
        match node:
            case Field():
                return Field((*node.names, *names), node.position)
            case Variable():
                return Variable((*node.names, *names), node.position)
            case Constant() | Nil() | Dot():
                raise self._error("unexpected . after a constant")
        return Chain(node, tuple(names), node.position)

    def _term(self) -> Operand:
        token = self._take_word()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in self._functions:
                    raise self._error(f"function {token.text!r} not defined", token)
                return Function(token.text, token.position)
            case Kind.DOT:
                return Dot(token.position)
            case Kind.VARIABLE:
                if self._scope.slot(token.text) is None:
                    raise self._error(f"undefined variable {token.text!r}", token)
                return Variable((token.text,), token.position)
            case Kind.FIELD:
                return Field((token.text[1:],), token.position)
            case Kind.OPEN:
                return self._pipeline("parenthesized pipeline", Kind.CLOSE)
            case Kind.KEYWORD:
                return Nil(token.position)
        return Constant(self._literal(token), token.position)

    def _literal(self, token: Token) -> bool | int | float | complex | str:
        try:
            match token.kind:
                case Kind.BOOL:
                    return token.text == "true"
                case Kind.RUNE:
                    return literals.rune(token.text)
                case Kind.NUMBER:
                    return literals.number(token.text)
            return literals.unquote(token.text)
        except ValueError as error:
            raise self._error(str(error), token) from error

    # Tokens

    def _enter(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._error("nested too deeply")

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _peek_word(self) -> Token:
        while self._peek().kind is Kind.SPACE:
            self._next += 1
        return self._peek()

    def _take_word(self) -> Token:
        self._peek_word()
        return self._take()

    def _expect(self, kind: Kind, context: str) -> None:
        token = self._take_word()
        if token.kind is not kind:
            raise self._unexpected(token, context)

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        what = repr(token.text) if token.text else "end of the template"
        return self._error(f"unexpected {what} in {context}", token)

    def _error(self, reason: str, token: Token | None = None) -> TemplateError:
        position = (token or self._peek()).position
        return error_at(self._source, position, reason)


def _is_empty(nodes: tuple[Node, ...]) -> bool:
    return all(isinstance(node, Text) and not node.text.strip() for node in nodes)
