from __future__ import annotations

from pathlib import Path

import pytest
from support.models import smollm2

from pannier.runtime.canary import run_canary

pytestmark = pytest.mark.engine


def test_the_built_in_canary_sings() -> None:
    result = run_canary()
    assert result.problem is None
    assert "CPU" in result.report


def test_a_given_model_sings() -> None:
    assert run_canary(smollm2()).problem is None


def test_a_broken_model_is_reported_and_not_raised(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model")
    assert run_canary(bad).problem
