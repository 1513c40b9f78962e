from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.gguf import tiny_llama

from pannier.api.main import EXIT_CODES, command_line
from pannier.pkgmgr.cli.app import build, run
from pannier.pkgmgr.errors import InvalidOption
from pannier.pkgmgr.store.store import Store
from pannier.runtime.template.choice import Preference, preference_of

from .conftest import add

JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools }}"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PANNIER_HOME", str(tmp_path))
    path = tiny_llama(tmp_path / "a.gguf", template=JINJA)
    add(Store.open(tmp_path), "both", f"FROM {path}\nTEMPLATE {{{{ .Prompt }}}}\n")
    return "both"


def show(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(command_line(), ["show", *arguments], exit_codes=EXIT_CODES)
    out, err = capsys.readouterr()
    return code, out, err


def test_show_tells_which_template_is_used_and_why(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = show(capsys, model, "--template", "--effective")
    assert (code, out.strip()) == (0, JINJA)
    assert "can do more" in err
    monkeypatch.setenv("PANNIER_TEMPLATE", "go")
    _, out, _ = show(capsys, model, "--template", "--effective", "--json")
    assert json.loads(out) == {
        "engine": "go",
        "reason": "the setting says so",
        "warning": "",
        "template": "{{ .Prompt }}",
    }


def test_effective_goes_with_template_and_the_runtime(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(capsys, model, "--effective")[0] == 2
    assert run(build(), ["show", model, "--template", "--effective"]) == 2
    assert "needs pannier's runtime" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "preference"),
    [
        ({}, Preference.AUTO),
        ({"OLLAMA_GO_TEMPLATE": "1"}, Preference.GO),
        ({"PANNIER_TEMPLATE": "Jinja", "OLLAMA_GO_TEMPLATE": "1"}, Preference.JINJA),
    ],
)
def test_the_setting_is_read(environ: Mapping[str, str], preference: Preference) -> None:
    assert preference_of(environ) is preference


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(InvalidOption, match="PANNIER_TEMPLATE"):
        preference_of({"PANNIER_TEMPLATE": "perl"})
