from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from pannier.runtime.errors import TemplateError
from pannier.runtime.template.pool import RenderPool

NOW = datetime(2026, 1, 2)


@pytest.fixture(scope="module")
def pool() -> Iterator[RenderPool]:
    pool = RenderPool()
    yield pool
    pool.close()


def test_a_template_is_rendered_with_the_conventions_of_transformers(pool: RenderPool) -> None:
    source = (
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m | tojson }}"
        "{% generation %}{{ strftime_now('%d %b %Y') }}{% endgeneration %}{% break %}{% endfor %}"
    )
    names = {"messages": [1, {"a": "<é>"}, 3]}
    assert pool.render(source, names, now=NOW) == '{"a": "<é>"}02 Jan 2026'


def test_lone_surrogates_and_private_characters_pass(pool: RenderPool) -> None:
    text = "\ud800\ue000\U000f0000"
    assert pool.render("{{ a }}", {"a": text}, now=NOW) == text


BOMBS = [
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 2000000000 }}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ range(100000) | map('string') | join('x' * 100000) }}",
    "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
    "{{ 10 ** (10 ** 9) }}",
    "{{ 'a' | center(2000000000) }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
]


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_a_template_bomb_ends_with_an_error(pool: RenderPool, bomb: str) -> None:
    started = time.monotonic()
    with pytest.raises(TemplateError):
        pool.render(bomb, {}, now=NOW)
    assert time.monotonic() - started < 12
    assert pool.render("{{ 1 }}", {}, now=NOW) == "1"


@pytest.mark.slow
def test_others_render_while_a_bomb_burns(pool: RenderPool) -> None:
    refused = threading.Event()

    def burn() -> None:
        with pytest.raises(TemplateError, match="processor time"):
            pool.render(BOMBS[0], {}, now=NOW)
        refused.set()

    thread = threading.Thread(target=burn)
    thread.start()
    while not refused.is_set():
        assert pool.render("{{ 1 + 1 }}", {}, now=NOW) == "2"
    thread.join()


@pytest.mark.parametrize("escape", ["{{ ''.__class__ }}", "{{ x.append(1) }}", "{% include 'a' %}"])
def test_the_sandbox_holds(pool: RenderPool, escape: str) -> None:
    with pytest.raises(TemplateError):
        pool.render(escape + "{{ ''.__class__.__mro__ }}", {"x": []}, now=NOW)


def test_a_syntax_error_names_its_line(pool: RenderPool) -> None:
    with pytest.raises(TemplateError) as caught:
        pool.check("a\n{% for %}")
    assert caught.value.line == 2
