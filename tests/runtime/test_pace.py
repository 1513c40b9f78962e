"""How much of a prompt goes into a step, from step times that tests make up."""

from __future__ import annotations

import random

from pannier.runtime.pace import Pace

USUAL_NS = 33_000_000
STREAMS = 7


def test_gaps_stay_below_three_times_the_usual() -> None:
    pace = Pace(512)
    for at in range(40):
        pace.note(100_000_000, streams=7, rows=7)
        # Each row costs 2 ms, and more the longer the prompt is.
        row_ns = 2_000_000 * (1 + at / 20)
        step_ns = 100_000_000 + row_ns * pace.prefill_rows()
        assert at == 0 or 200_000_000 < step_ns < 300_000_000
        pace.note(int(step_ns), streams=7, rows=7 + pace.prefill_rows())


def test_prompts_get_more_of_a_step_the_more_they_outnumber_streams() -> None:
    pace = Pace(512)
    pace.note(100_000_000, streams=4, rows=4)
    pace.note(200_000_000, streams=4, rows=4 + 50)
    few, many = pace.prefill_rows(0.25), pace.prefill_rows(3.0)
    assert 60 < few < 70
    assert 3 * few <= many < 3 * few + 3


def test_a_prompt_is_held_up_for_one_step_even_if_nothing_is_measured() -> None:
    pace = Pace(512)
    for _ in range(40):
        pace.note(200_000_000, streams=4, rows=4 + 50)
    assert pace.prefill_rows() == 0
    assert pace.prefill_rows() > 0


def step_times(pace: Pace, num_prompt: int, *, seed: int) -> list[float]:
    """What each step takes while a prompt is read beside streams, on a machine that varies.

    As measured: towards the prompt's end the streams' own part of a step is half as long again,
    from all the cells in use, and a row of the prompt costs three times as much.
    """
    varies = random.Random(seed)
    for _ in range(30):
        pace.note(int(USUAL_NS * varies.uniform(0.95, 1.05)), streams=STREAMS, rows=STREAMS)
    times, done = [], 0
    while done < num_prompt:
        rows, share = pace.prefill_rows(1 / STREAMS), done / num_prompt
        step_ns = USUAL_NS * (1 + share / 2) + rows * 3_000_000 * (1 + 2 * share)
        step_ns *= varies.uniform(0.95, 1.15)
        # At first nothing is known of what a row costs.
        if done:
            times.append(step_ns)
        pace.note(int(step_ns), streams=STREAMS, rows=STREAMS + rows)
        done += rows
    return times


def test_a_long_prompt_never_opens_a_gap_above_three_times_the_usual() -> None:
    for seed in range(50):
        times = step_times(Pace(512), 2000, seed=seed)
        assert max(times) < 3 * USUAL_NS
        assert len(times) < 400


def test_what_is_usual_follows_more_streams_at_once() -> None:
    pace = Pace(512)
    for _ in range(20):
        pace.note(10_000_000, streams=1, rows=1)
    few = pace.spare_ns
    for _ in range(10):
        pace.note(33_000_000, streams=7, rows=7)
    assert pace.spare_ns > 2.5 * few
    for _ in range(30):
        pace.note(10_000_000, streams=1, rows=1)
    assert abs(pace.spare_ns - few) < 1_000_000


def test_what_is_usual_follows_where_prompts_never_end() -> None:
    pace = Pace(512)
    pace.note(20_000_000, streams=2, rows=2)
    spare = []
    for _ in range(2000):
        rows = pace.prefill_rows()
        pace.note(40_000_000 + 1_000_000 * rows, streams=2, rows=2 + rows)
        spare.append(pace.spare_ns)
    assert spare[100] < 20_000_000 < 48_000_000 < spare[-1]
