from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from support.models import smollm2, source_of

from pannier.runtime.diskstates import MIN_TOKENS, DiskStates
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.supervisor import Supervisor

TOKENS = list(range(MIN_TOKENS + 10))


def test_a_state_is_found_after_a_restart(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"state").hexdigest()
    head = {"tokens": TOKENS, "group": "", "sha256": digest}
    (tmp_path / "a.state").write_bytes(json.dumps(head).encode() + b"\nstate")
    states = DiskStates(0, tmp_path)
    assert not states.wants(TOKENS, "")
    assert states.wants(TOKENS, "other")
    found = states.match([*TOKENS, 1, 2], limit=500, group="", usable=lambda common, size: common)
    assert found is not None
    assert (found.state, found.length) == (b"state", len(TOKENS))
    assert (
        states.match([*TOKENS, 1], limit=500, group="other", usable=lambda common, size: common)
        is None
    )


@pytest.mark.parametrize("content", [b"", b"{}\nx", b"\xff\n", b'{"tokens": [], "group": ""}\n'])
def test_damaged_files_are_dropped(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.state").write_bytes(content)
    DiskStates(0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_state_with_wrong_bytes_is_not_used(tmp_path: Path) -> None:
    head = b'{"tokens": %s, "group": "", "sha256": "00"}\n' % str(TOKENS).encode()
    (tmp_path / "a.state").write_bytes(head + b"other")
    states = DiskStates(0, tmp_path)
    assert (
        states.match([*TOKENS, 1], limit=500, group="", usable=lambda common, size: common) is None
    )


@pytest.mark.engine
def test_a_restart_does_not_pay_a_system_prompt_again(tmp_path: Path) -> None:
    source = source_of(smollm2(), "smol")
    stem = "The old miller keeps count of every sack of flour in his long book. " * 25
    cached = []
    for ends in ((" One", " Two"), (" Three",)):
        options = LoadOptions(num_ctx=1024, num_thread=1)
        with Supervisor(states=tmp_path, defaults=options) as supervisor:
            for end in ends:
                request = GenerationRequest(
                    (Segment(stem + end),),
                    sampling=SamplingParams(temperature=0),
                    max_tokens=4,
                )
                usage = list(supervisor.generate(source, request))[-1].usage
                assert usage is not None
                cached.append(usage.cached_tokens)
            supervisor.close()
    assert cached[0] == 0
    assert cached[1] > MIN_TOKENS
    assert cached[2] > MIN_TOKENS
