"""The API about itself: /openapi.json, and /docs, the same for people. No scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from typing import Any

from flask import Blueprint, Response

from .openapi import document
from .streaming import to_json

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color-scheme:light dark}
h2{margin-top:3rem}h3{margin:2rem 0 0;font-family:ui-monospace,monospace;font-size:1rem}
h3 b{display:inline-block;min-width:4.5rem}p{margin:.25rem 0}
table{border-collapse:collapse;margin:.5rem 0;width:100%}
td{border-top:1px solid #8884;padding:.15rem .5rem;vertical-align:top}
details{margin:.25rem 0}dt{float:left;font-family:ui-monospace,monospace}dd{margin-left:4rem}
td:first-child{font-family:ui-monospace,monospace;width:16rem}
"""


def blueprint() -> Blueprint:
    """Both routes."""
    routes = Blueprint("meta", __name__)

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return Response(_document(), content_type="application/json")

    @routes.get("/docs")
    def docs() -> Response:
        response = Response(_page(), content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'unsafe-inline'"
        )
        return response

    return routes


@cache
def _document() -> bytes:
    return to_json(document())


@cache
def _page() -> str:
    return page(document())


def page(described: Mapping[str, Any]) -> str:
    """An OpenAPI document as one HTML page."""
    info = described["info"]
    head = f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>"
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8">{head}',
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])} "
        'The same for programs: <a href="/openapi.json">openapi.json</a>.</p>',
    ]
    for tag in described["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>")
        parts += _operations(described, tag["name"])
    return "".join(parts)


def _operations(described: Mapping[str, Any], tag: str) -> Iterator[str]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if tag not in operation["tags"]:
                continue
            yield f"<h3><b>{method.upper()}</b>{escape(path)}</h3>"
            yield f"<p>{escape(operation['summary'])}</p>"
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            if schema:
                yield _fields(described, schema)
            yield from _answers(described, operation["responses"])


def _answers(described: Mapping[str, Any], responses: Mapping[str, Any]) -> Iterator[str]:
    """What an operation answers: the fields of a success, and why it may fail."""
    for status, response in responses.items():
        if not status.startswith("2"):
            continue
        for kind, content in response.get("content", {}).items():
            yield f"<details><summary>{status} {escape(kind)}</summary>"
            schema = content.get("schema", {})
            for item in schema.get("anyOf", [schema]):
                yield _fields(described, item)
            yield "</details>"
    failures = "".join(
        f"<dt>{status}</dt><dd>{escape(response['description'])}</dd>"
        for status, response in responses.items()
        if not status.startswith("2")
    )
    yield f"<details><summary>failures</summary><dl>{failures}</dl></details>"


def _fields(described: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    resolved = _resolve(described, schema)
    required = resolved.get("required", [])
    rows = [
        f"<tr><td>{escape(name)}{' *' if name in required else ''}</td>"
        f"<td>{escape(_type(described, field))}</td></tr>"
        for name, field in resolved.get("properties", {}).items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _type(described: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    """A field's type in a few words."""
    if "$ref" in field:
        inner = _resolve(described, field)
        return "object: " + ", ".join(inner.get("properties", {}))
    if "anyOf" in field:
        return " or ".join(_type(described, item) for item in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(described, field.get('items', {}))}"
    if "enum" in field or "const" in field:
        return " | ".join(map(str, field.get("enum", [field.get("const")])))
    return str(field.get("type", "any"))


def _resolve(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = described["components"]["schemas"].get(name, schema)
    return found
