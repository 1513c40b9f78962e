from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.engine
@pytest.mark.slow
def test_llama_cpp_survives_what_the_checks_accept() -> None:
    # Without the variable an abort starts a debugger, which may hang.
    environ = {**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "support.accepted", "11", "60"]
    done = subprocess.run(command, env=environ, capture_output=True, check=True, timeout=120)
    assert json.loads(done.stdout) == []
