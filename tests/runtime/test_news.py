"""The engine's counters are told at ends and now and then, not with each token."""

from __future__ import annotations

from dataclasses import replace

from support.schedules import WORDS

from pannier.runtime import frames
from pannier.runtime.engine import Engine
from pannier.runtime.news import News
from pannier.runtime.request import GenerationRequest
from pannier.runtime.scripted import ScriptedBackend


def test_counters_come_with_the_end_of_an_answer_and_not_with_each_token() -> None:
    backend = ScriptedBackend(num_cells=1000, num_sequences=8, batch_size=64)
    endless = replace(WORDS, end_tokens=frozenset())
    engine = Engine(backend, endless, context_length=500, max_running=4)
    # A step takes 30 ms.
    news = News(engine, clock=lambda: engine.scheduler.step * 0.03)
    engine.add(1, GenerationRequest((), max_tokens=12), [1, 2, 3])
    told = []
    while not engine.is_idle:
        message = news.of(engine.step())
        assert message is not None
        told.append(message)
    assert [at for at, message in enumerate(told) if "stats" in message] == [0, 4, 8, 11]
    assert frames.decode_stats(told[-1]["stats"]) == engine.stats()
    assert news.of([]) is None


def test_what_only_the_counters_show_is_told_too() -> None:
    backend = ScriptedBackend(num_cells=1000, num_sequences=8, batch_size=64)
    engine = Engine(backend, WORDS, context_length=500, max_running=4)
    news = News(engine)
    engine.add(1, GenerationRequest((), max_tokens=2), [1 + at % 6 for at in range(200)])
    message = news.of(engine.step())
    assert message is not None
    assert message["pieces"] == []
    assert frames.decode_stats(message["stats"]).prompt_tokens_computed == 64
