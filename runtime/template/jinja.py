"""Jinja chat templates with the conventions of Hugging Face Transformers, in a sandbox.

A template comes with a model and is as trustworthy as a stranger: it gets an immutable sandbox, and
its source and its output are bounded. Time and memory are bounded by whoever calls `render`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import TemplateError

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MAX_SOURCE = 256 * 1024  # characters; the longest known chat template has under 40 000
MAX_OUTPUT = 4 * 1024 * 1024  # characters


class JinjaTemplate:
    """A compiled template. Rendering keeps no state, so that any thread may do it."""

    def __init__(self, source: str, *, now: Callable[[], datetime] = datetime.now) -> None:
        """Compile.

        Raises:
            TemplateError: where the source is too long or no Jinja.
        """
        from jinja2 import TemplateSyntaxError

        if len(source) > MAX_SOURCE:
            raise TemplateError(f"{len(source)} characters, more than {MAX_SOURCE}")
        try:
            self._template: Template = _environment(now).from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateError(error.message or "syntax error", line=error.lineno) from error
        except SyntaxError as error:
            # Python refuses what Jinja made of it: too many loops in each other, a stray `break`.
            raise TemplateError(error.msg or "syntax error") from error
        except RecursionError as error:
            raise TemplateError("nested too deeply") from error

    def render(self, names: Mapping[str, Any]) -> str:
        """The text for these top-level names.

        Raises:
            TemplateError: where the template fails, refuses, or writes too much.
        """
        from jinja2 import TemplateError as JinjaError

        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(**names):
                parts.append(part)
                size += len(part)
                if size > MAX_OUTPUT:
                    raise TemplateError(f"writes more than {MAX_OUTPUT} characters")
        except (JinjaError, *_PYTHON_ERRORS) as error:
            raise TemplateError(str(error) or type(error).__name__) from error
        return "".join(parts)


# What operators, filters and methods raise on values that a template did not expect.
_PYTHON_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _Dict:
    """`dict` for templates: what makes dictionaries, without being the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        """As Python's."""
        return dict.fromkeys(keys, value)


def _environment(now: Callable[[], datetime]) -> Environment:
    from jinja2 import TemplateError as JinjaError
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class CheckedNamespace(Namespace):
        """`namespace`, without the names that Python's insides have."""

        def __init__(*args: Any, **kwargs: Any) -> None:  # `self` may be one of the names
            names = dict(*args[1:], **kwargs)
            for name in names:
                refuse_inner(name)
            Namespace.__init__(args[0], names)

        def __setitem__(self, name: str, value: Any) -> None:
            refuse_inner(name)
            super().__setitem__(name, value)

    def refuse_inner(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise JinjaError(f"a namespace cannot hold {name!r}: it begins with an underscore")

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}`, which marks training targets, as its content."""

        tags = {"generation"}  # noqa: RUF012 – Jinja's own declaration

        def parse(self, parser: Parser) -> list[nodes.Node]:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return [nodes.Scope(body, lineno=line)]

    def raise_exception(message: str) -> None:
        raise JinjaError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = CheckedNamespace
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Transformers writes it: no HTML escapes, letters as they are."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
