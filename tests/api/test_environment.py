"""Settings of the server that come from the environment."""

from __future__ import annotations

import pytest

from pannier.api.environment import open_runtime, origins, setting
from pannier.pkgmgr.errors import InvalidOption


def test_our_variables_go_before_ollamas() -> None:
    environ = {"PANNIER_X": "ours", "OLLAMA_X": "theirs", "OLLAMA_Y": " 'quoted' ", "PANNIER_Z": ""}
    assert setting(environ, "X") == "ours"
    assert setting(environ, "Y") == "quoted"
    assert setting(environ, "Z") is None


def test_origins_are_a_list() -> None:
    assert origins({"OLLAMA_ORIGINS": "http://a, https://b:*,"}) == ("http://a", "https://b:*")
    assert origins({}) == ()


@pytest.mark.parametrize("text", ["5m", "300", "-1", "1h30m", "0"])
def test_keep_alive_is_seconds_or_a_duration(text: str) -> None:
    open_runtime({"OLLAMA_KEEP_ALIVE": text, "OLLAMA_CONTEXT_LENGTH": "8192"}).close()


@pytest.mark.parametrize(
    "environ",
    [{"OLLAMA_KEEP_ALIVE": "soon"}, {"PANNIER_CONTEXT_LENGTH": "4k"}, {"OLLAMA_NUM_PARALLEL": "x"}],
    ids=str,
)
def test_wrong_values_are_errors(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidOption):
        open_runtime(environ)
