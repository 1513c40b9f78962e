"""Go's text/template: vectors made by Go 1.26 itself, and what only pannier bounds.

Each line of golden/templates/go.jsonl was rendered by Go's own package with missingkey=zero and the
functions of text/template plus `json`: `out` is what it wrote, `error` says that it failed. The
templates were composed at random; `scripts/go_vectors.py` renders them anew and adds more.
"""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.runtime.errors import TemplateError
from pannier.runtime.template.go.encoding import to_json
from pannier.runtime.template.go.execute import FUNCTION_NAMES, Program
from pannier.runtime.template.go.parser import parse
from pannier.runtime.template.ollama import OllamaTemplate, template_functions

VECTORS = Path(__file__).parents[2] / "golden" / "templates" / "go.jsonl"


def render(source: str, data: Any = None) -> str:
    functions = template_functions(datetime.now)
    return Program(parse(source, FUNCTION_NAMES | set(functions)), functions).render(data)


def test_every_vector_gives_the_bytes_that_go_gives() -> None:
    wrong = []
    for line in VECTORS.read_text().splitlines():
        vector = json.loads(line)
        try:
            result: Any = render(vector["template"], vector["data"])
        except TemplateError:
            result = True
        if result != vector.get("out", vector.get("error")):
            wrong.append((vector, result))
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a {{- 1 -}} b", "a1b"),
        ("{{/* gone */}}x{{- /* and blanks */ -}} y", "xy"),
        ("{{range $i, $x := .L}}{{$i}}={{$x}},{{else}}none{{end}}", "0=a,1=b,"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range .L}}{{if eq . `b`}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .L}}{{if eq . `a`}}{{continue}}{{end}}{{.}}{{end}}", "b"),
        ("{{range $k, $v := .M}}{{$k}}{{$v}}{{end}}", "x1y2"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{with .M}}{{.x}}{{$.L}}{{else}}no{{end}}", "1[a b]"),
        ("{{with .None}}x{{else with .M}}{{.y}}{{end}}", "2"),
        ('{{define "t"}}<{{.}}>{{end}}{{template "t" .M.x}}', "<1>"),
        ('{{block "b" .L}}{{len .}}{{end}}', "2"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{$x := 3}}{{end}}{{$x}}", "2"),
        ("{{(index .L 0)}}{{(slice .L 1)}}{{len (slice `abc` 1 2)}}", "a[b]1"),
        ("{{or .None `` `z`}}{{and 1 0}}{{not 0}}", "z0true"),
        ("{{eq 1 2 3 1}}{{ne `a` `b`}}{{lt 1 2}}{{ge 1.5 1.5}}", "truetruetruetrue"),
        ("{{.Missing}}|{{.M}}|{{json .M}}", '<no value>|map[x:1 y:2]|{"x":1,"y":2}'),
        ("{{json `<&>\u2028`}}", '"\\u003c\\u0026\\u003e\\u2028"'),
        (
            '{{printf "%s|%5d|%-4v|%q|%.2f|%x" `a` 7 true `"` 1.5 255}}',
            'a|    7|true|"\\""|1.50|ff',
        ),
        (
            '{{printf "%d" `a`}}{{printf "%s"}}{{printf "" 1}}',
            "%!d(string=a)%!s(MISSING)%!(EXTRA int=1)",
        ),
        ("{{print 1 2 `a` 3}}{{println 1 `a`}}", "1 2a31 a\n"),
        ("{{1e6}} {{100000.0}} {{1e-5}} {{'a'}} {{0x1F}}", "1e+06 100000 1e-05 97 31"),
    ],
)
def test_the_language(source: str, expected: str) -> None:
    assert render(source, {"L": ["a", "b"], "M": {"y": 2, "x": 1}}) == expected


@pytest.mark.parametrize(
    ("source", "line", "column", "reason"),
    [
        ("a\nb {{if}}", 2, 7, "missing value"),
        ("{{range .}}", 1, 12, "{{end}} is missing"),
        ("{{end}}", 1, 3, "unexpected 'end'"),
        ("x\n\n  {{ .A }", 3, 10, "unclosed action"),
        ("{{ nope }}", 1, 4, "function 'nope' not defined"),
        ("{{ $x }}", 1, 4, "undefined variable"),
        ("{{ if 1 }}\n{{ $x := 1 }}{{ end }}\n é {{ $x }}", 3, 7, "undefined variable"),
        ('{{define "a"}}x{{end}}{{define "a"}}y{{end}}', 1, None, "multiple definition"),
        ("{{template 1}}", 1, 12, "unexpected '1'"),
        ("{{define x}}{{end}}", 1, 10, "unexpected 'x'"),
        ("{{ .A.B. }}", 1, 8, "unexpected '.'"),
        ("{{ 1 | 2 }}", 1, 4, "non executable command"),
        ("{{range $i, $j, $k := .A}}{{end}}", 1, 15, "too many declarations"),
        ("{{ 'ab' }}", 1, 4, "malformed character"),
        ('{{ "\\q" }}', 1, 4, "invalid escape"),
        ("{{else}}", 1, 3, "unexpected 'else'"),
        ("{{with 1}}{{else if 1}}{{end}}", 1, 18, "unexpected 'if'"),
        ("{{ break }}", 1, 4, "outside {{range}}"),
        ("{{/* x", 1, 3, "unclosed comment"),
        ('{{ "x }}', 1, 4, "unterminated"),
        ("{{ (1 }}", 1, 7, "unclosed left paren"),
        ("{{if 1}}{{else}}{{else}}{{end}}", 1, 19, "found {{else}}"),
        ("{{ 99999999999999999999 }}", 1, 4, "overflow"),
        ("{{if 1}}" * 200 + "{{end}}" * 200, 1, None, "nested too deeply"),
        ("{{ " + "(" * 200 + "1" + ")" * 200 + " }}", 1, None, "nested too deeply"),
        ("x" * 300_000, None, None, "300000 characters"),
    ],
)
def test_a_broken_template_names_its_place(
    source: str, line: int | None, column: int | None, reason: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert reason in str(caught.value)
    assert caught.value.line == line
    assert column is None or caught.value.column == column


@pytest.mark.parametrize(
    "bomb",
    [
        "{{range 1000000000}}{{end}}",
        "{{range 100000}}{{range 100000}}x{{end}}{{end}}",
        '{{define "t"}}{{template "t"}}{{end}}{{template "t"}}',
        '{{define "t"}}{{range 10}}{{template "t"}}{{end}}{{end}}{{template "t"}}',
        "{{$x := `ab`}}{{range 100}}{{$x = print $x $x}}{{end}}{{len $x}}",
        '{{$x := `ab`}}{{range 100}}{{$x = printf "%q" $x}}{{end}}',
        '{{range 100000}}{{printf "%1000000d" 1}}{{end}}',
        '{{$x := printf "%1000000d" 1}}{{range 100000}}{{if eq $x $x}}{{end}}{{end}}',
        "{{range 100000}}{{range 1000}}{{end}}{{$.Big}}{{end}}",
        '{{printf "' + "%999999d" * 10_000 + '"' + " 1" * 10_000 + "}}",
        "{{$x := .Big}}{{len (print" + " $x" * 20_000 + ")}}",
        "{{$x := .Big}}{{len (println" + " $x" * 20_000 + ")}}",
        "{{range 400000}}{{range $k, $v := $.Map}}{{break}}{{end}}{{end}}",
        '{{printf "%999999v" .List}}',
        '{{define "t"}}' + "{{$a := 1}}" * 9_000 + '{{end}}{{range 100000}}{{template "t"}}{{end}}',
        '{{template ""}}',
    ],
)
def test_a_template_bomb_ends_with_an_error(bomb: str) -> None:
    data = {"Big": "x" * 100_000, "Map": dict.fromkeys(map(str, range(10_000)), 1)}
    with pytest.raises(TemplateError):
        render(bomb, {**data, "List": [1] * 1_000})


def test_a_template_with_very_many_variables_is_compiled_all_the_same() -> None:
    declared = "".join(f"{{{{$a{i} := {i}}}}}" for i in range(3_000))
    assert render(declared + "{{$a0}}" * 3_000) == "0" * 3_000


@given(st.text(alphabet="{}$.|()\"'`-= \nabrangeifdt/*0123:", max_size=80))
def test_any_source_parses_or_is_refused(source: str) -> None:
    with contextlib.suppress(TemplateError):
        render("{{" + source, {"a": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e15, 1e15) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_reads_back_as_the_same_value(value: Any) -> None:
    assert json.loads(to_json(value)) == value


def test_the_clock_is_an_argument() -> None:
    template = OllamaTemplate(
        "{{ currentDate }} {{ yesterdayDate }}{{ .Response }}", now=lambda: datetime(2024, 3, 1)
    )
    assert template.chat([]) == "2024-03-01 2024-02-29"
