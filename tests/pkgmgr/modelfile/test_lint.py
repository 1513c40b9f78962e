from __future__ import annotations

from pathlib import Path

import pytest
from support import gguf as make

from pannier.pkgmgr.modelfile.lint import Severity, lint

ERROR, WARNING = Severity.ERROR, Severity.WARNING


@pytest.mark.parametrize(
    ("text", "severity", "line", "message"),
    [
        ("SYSTEM x\n", ERROR, None, "no FROM line"),
        ("FROM a.gguf\nFRO b\n", ERROR, 2, "command must be one of"),
        ("FROM ./missing.gguf\n", ERROR, 1, "No such file"),
        ("FROM ./bad.gguf\n", ERROR, 1, "not a usable GGUF"),
        ("FROM a.gguf\nPARAMETER top_x 1\n", ERROR, 2, "unknown parameter"),
        ("FROM a.gguf\nPARAMETER top_k x\n", ERROR, 2, "invalid int value"),
        ("FROM a.gguf\nREQUIRES x\n", ERROR, 2, "semantic version"),
        ("FROM a.gguf\nADAPTER none\n", ERROR, 2, "there is no file"),
        ("FROM a//b\n", ERROR, 1, "invalid model name"),
        ("FROM llama3\n", WARNING, 1, "another model tomorrow"),
        ("FROM a.gguf\nPARAMETER low_vram 1\n", WARNING, 2, "no effect"),
        ("FROM a.gguf\nPARAMETER top_p 2\n", WARNING, 2, "above one"),
        ("FROM a.gguf\nPARAMETER temperature -1\n", WARNING, 2, "below zero"),
        ('FROM a.gguf\nPARAMETER stop ""\n', WARNING, 2, "never stops"),
        ("FROM a.gguf\nSYSTEM a\nSYSTEM b\n", WARNING, 2, "a later SYSTEM"),
        ("FROM a.gguf\nPARAMETER top_k 1\nPARAMETER top_k 2\n", WARNING, 2, "a later PARAMETER"),
        ("FROM a.gguf\nTEMPLATE hello\n", WARNING, 2, "every prompt"),
        ("FROM a.gguf\nTEMPLATE {{ .System }}\n", WARNING, 2, "neither .Prompt nor .Messages"),
        ('FROM a.gguf\nSYSTEM ""\n', WARNING, 2, "has no value"),
        ("from a.gguf\n", WARNING, None, "plain form"),
    ],
)
def test_findings(
    tmp_path: Path, text: str, severity: Severity, line: int | None, message: str
) -> None:
    make.tiny_llama(tmp_path / "a.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"no")
    (found,) = lint(text, base_dir=tmp_path)
    assert (found.severity, found.line) == (severity, line)
    assert message in found.message


def test_a_good_modelfile_has_none(tmp_path: Path) -> None:
    make.tiny_llama(tmp_path / "a.gguf")
    text = "# fine\nFROM a.gguf\nTEMPLATE {{ .Prompt }}\nPARAMETER top_k unset\n"
    assert lint(text, base_dir=tmp_path) == ()
