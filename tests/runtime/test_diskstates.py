from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from support.models import smollm2, source_of
from support.schedules import WORDS

from pannier.runtime.diskstates import MIN_TOKENS, DiskStates
from pannier.runtime.engine import Engine
from pannier.runtime.hoststates import SavedState
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.scripted import ScriptedBackend
from pannier.runtime.supervisor import Supervisor

TOKENS = list(range(MIN_TOKENS + 10))


def find(states: DiskStates, *more: int, least: int = 1, group: str = "") -> SavedState | None:
    """The state for the tokens and some more."""
    return states.match(
        [*TOKENS, *more], least=least, limit=500, group=group, usable=lambda common, size: common
    )


def kept(states: DiskStates, number: int, state: bytes = b"state") -> list[int]:
    """Tokens that no other number has, and that now have a state on disk."""
    tokens = [10_000 + number, *TOKENS]
    states.keep(tokens, state, "")
    states.flush()
    return tokens


def test_a_state_is_found_after_a_restart(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"state").hexdigest()
    head = {"tokens": TOKENS, "group": "", "sha256": digest}
    (tmp_path / "a.state").write_bytes(json.dumps(head).encode() + b"\nstate")
    states = DiskStates(0, tmp_path)
    assert not states.wants(TOKENS, "")
    assert states.wants(TOKENS, "other")
    found = find(states, 1, 2)
    assert found is not None
    assert (found.state, found.length) == (b"state", len(TOKENS))
    assert find(states, 1, group="other") is None


@pytest.mark.parametrize("content", [b"", b"{}\nx", b"\xff\n", b'{"tokens": [], "group": ""}\n'])
def test_damaged_files_are_dropped(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.state").write_bytes(content)
    DiskStates(0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_state_with_wrong_bytes_is_not_used(tmp_path: Path) -> None:
    head = b'{"tokens": %s, "group": "", "sha256": "00"}\n' % str(TOKENS).encode()
    (tmp_path / "a.state").write_bytes(head + b"other")
    assert find(DiskStates(0, tmp_path), 1) is None


def test_a_file_is_not_read_where_the_cells_hold_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = DiskStates(0, tmp_path)
    states.keep(TOKENS, b"state", "")
    states.flush()
    monkeypatch.setattr(Path, "open", None)
    assert find(states, 1, least=len(TOKENS) + 1) is None


def test_requests_save_their_common_beginning_once(tmp_path: Path) -> None:
    backend = ScriptedBackend(num_cells=8000, num_sequences=32, batch_size=512)
    states = DiskStates(0, tmp_path)
    engine = Engine(backend, WORDS, context_length=1000, max_running=8, states=states)
    for key in range(6):
        prompt = [*(1 + at % 6 for at in range(600)), 1 + key, 5]
        engine.add(key, GenerationRequest((), max_tokens=4), prompt)
    while not engine.is_idle:
        engine.step()
    states.flush()
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_used_longest_ago_leaves_a_full_folder(tmp_path: Path) -> None:
    states = DiskStates(0, tmp_path, disk_budget=10_000)
    first, second, third = (kept(states, number, bytes(2_000)) for number in range(3))

    def has(tokens: list[int]) -> bool:
        found = states.match(tokens, least=1, limit=500, group="", usable=lambda common, _: common)
        return found is not None

    assert has(first)
    kept(states, 3, bytes(2_000))
    assert [has(tokens) for tokens in (first, second, third)] == [True, False, True]
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert has(third)
    again = DiskStates(0, tmp_path, disk_budget=5_000)
    assert not again.wants(third, "")
    assert again.wants(first, "")


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a.unfinished").write_bytes(b"half")
    DiskStates(0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_no_request(tmp_path: Path) -> None:
    states = DiskStates(0, tmp_path / "missing")
    kept(states, 1)
    assert states.wants([10_001, *TOKENS], "")


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
