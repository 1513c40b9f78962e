"""Requests off the wire: JSON within limits, validated by pydantic schemas.

Clients of three APIs written in many languages share these rules: unknown fields are ignored, a
null is an absent field, and a wrong type is an error that names the field.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar, get_args

from flask import Response, request
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import from_json
from werkzeug.exceptions import RequestEntityTooLarge

from .encodings import decoded
from .errors import RequestError

# A dozen photographs as base64; multi-GB content goes to /api/blobs and /v2/, which stream.
MAX_BODY_BYTES = 64 * 1024 * 1024

IGNORED_HEADER = "X-Pannier-Ignored"

# Only a body with so many digits in a row can hold an integer that large.
_HUGE = re.compile(rb"[0-9]{309}")
_TYPES = ("str", "int", "float", "bool")

_Schema = TypeVar("_Schema", bound="Wire")

_EXPECTED = {
    "string_type": "a string",
    "bool_type": "a boolean",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "an array",
    "tuple_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "missing": "a value",
}


class Wire(BaseModel):
    """Base of all request schemas."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        frozen=True,
        defer_build=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class Open(Wire):
    """A request that remembers the fields that it does not know, to name them in a warning."""

    model_config = ConfigDict(extra="allow")
    _inner: tuple[str, ...] = ()

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the fields that had no effect, sorted; those of inner objects with a path."""
        return tuple(sorted({*(self.model_extra or ()), *self._inner}))


class Urgent(Open):
    """A request that may say how urgent it is; see `pannier.api.urgency`."""

    priority: Literal["high", "normal", "low"] | None = None
    deadline: float | str | None = None


def warned(ignored: tuple[str, ...], response: Response) -> Response:
    """Name the fields that had no effect; header values hold printable ASCII only."""
    names = [name for name in ignored if _is_printable(name)][:32]
    if names:
        response.headers[IGNORED_HEADER] = ", ".join(names)
    return response


def _is_printable(name: str) -> bool:
    return name.isascii() and all(part.isidentifier() for part in name.split("."))


def unknown_inside(schemas: Sequence[type[BaseModel]], data: Any, path: str = "") -> Iterator[str]:
    """Paths of fields in the objects inside `data` that none of their schemas knows.

    `data` is valid for one of `schemas`; its own unknown fields are not among them.
    """
    for schema in schemas:
        for name, field in schema.model_fields.items():
            key = field.alias or name
            inner = tuple(_schemas_in(field.annotation))
            value = data.get(key)
            for each in value if isinstance(value, list) else [value]:
                if not inner or not isinstance(each, dict):
                    continue
                known = {f.alias or n for s in inner for n, f in s.model_fields.items()}
                place = f"{path}{key}."
                yield from (place + k for k, v in each.items() if v is not None and k not in known)
                yield from unknown_inside(inner, each, place)


def _schemas_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The schemas that an annotation names, alone, in a union or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Wire):
        yield annotation
    for argument in get_args(annotation):
        yield from _schemas_in(argument)


def read_body(schema: type[_Schema], *, missing: str = "missing request body") -> _Schema:
    """The current request's JSON body as `schema`; the Content-Type is not asked for.

    Raises:
        RequestError: 400 where it is absent, malformed or of the wrong shape; 413 where too long;
            415 where it is compressed in an unknown way.
    """
    request.max_content_length = MAX_BODY_BYTES
    try:
        raw = request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise RequestError(413, "request body too large") from error
    raw = decoded(raw, request.headers.get("Content-Encoding", ""), limit=MAX_BODY_BYTES)
    if not raw.strip():
        raise RequestError(400, missing)
    return parse(schema, raw)


def parse(schema: type[_Schema], raw: bytes) -> _Schema:
    """Validate one JSON document.

    Raises:
        RequestError: 400, with what is wrong and where.
    """
    try:
        data = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(400, f"invalid JSON: {error}") from error
    if not isinstance(data, dict):
        raise RequestError(400, "invalid JSON: the request must be an object")
    if _HUGE.search(raw) and _has_huge(data):
        raise RequestError(400, "invalid JSON: number out of range")
    try:
        body = schema.model_validate(data)
    except ValidationError as error:
        raise _shape_error(error) from error
    if isinstance(body, Open):
        body._inner = tuple({*unknown_inside([schema], data)})
    return body


def _has_huge(data: Any) -> bool:
    """Whether an integer is beyond what a float holds, as `1e999` is, which is refused as well."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and abs(value) > sys.float_info.max:
            return True
    return False


def _is_type(part: int | str) -> bool:
    """Whether a part of a fault's place names one type of several, and no field."""
    return isinstance(part, str) and (part.endswith("]") or part in _TYPES)


def _shape_error(error: ValidationError) -> RequestError:
    """The first fault as one line; the value itself is not repeated."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = [part for part in fault["loc"] if not _is_type(part)]
    field = ".".join(str(part) for part in path)
    expected = _EXPECTED.get(fault["type"])
    reason = f"expected {expected}" if expected else fault["msg"].removeprefix("Value error, ")
    return RequestError(400, f"invalid {field or 'request'}: {reason}", param=field or None)
