"""A model made without TEMPLATE gets the named template that its Jinja template stands for."""

from __future__ import annotations

from pathlib import Path

from support import gguf as make

from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.modelspec import ModelSpec
from pannier.pkgmgr.named_templates import NAMED_TEMPLATES
from pannier.pkgmgr.operations import read_model
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
)


def built(tmp_path: Path, jinja: str, *lines: str) -> ModelSpec:
    make.tiny_llama(tmp_path / "a.gguf", template=jinja)
    store, name = Store.open(tmp_path / "store"), Reference.parse("m")
    create(store, parse("\n".join(["FROM ./a.gguf", *lines])), name, base_dir=tmp_path)
    return read_model(store, name).spec


def test_a_well_known_format_brings_template_and_stops(tmp_path: Path) -> None:
    spec = built(tmp_path, CHATML)
    assert spec.template == NAMED_TEMPLATES["chatml"].source
    assert spec.params["stop"] == ["<|im_start|>", "<|im_end|>"]


def test_what_the_modelfile_says_goes_first(tmp_path: Path) -> None:
    spec = built(tmp_path, CHATML, "TEMPLATE {{ .Prompt }}", "PARAMETER stop x")
    assert (spec.template, spec.params["stop"]) == ("{{ .Prompt }}", ["x"])


def test_a_template_that_says_more_stays_jinja(tmp_path: Path) -> None:
    assert built(tmp_path, CHATML + "{{ tools }}").template is None
