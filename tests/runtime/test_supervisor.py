from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ending import wait_for_end
from support.gguf import tiny_llama
from support.models import smollm2, source_of

from pannier.pkgmgr.errors import InvalidGGUF
from pannier.runtime.constraint import Constraint
from pannier.runtime.errors import ContextOverflow, LoadError, RunnerDied
from pannier.runtime.interface import ModelSource
from pannier.runtime.request import (
    FinishReason,
    GenerationRequest,
    LoadOptions,
    SamplingParams,
    Segment,
    TokenLogprob,
)
from pannier.runtime.supervisor import Supervisor

pytestmark = pytest.mark.engine

GREEDY = SamplingParams(temperature=0)


def ask(text: str, **fields: object) -> GenerationRequest:
    prompt = (
        Segment("<|im_start|>user\n"),
        Segment(text, special=False),
        Segment("<|im_end|>\n<|im_start|>assistant\n"),
    )
    values = {"prompt": prompt, "sampling": GREEDY, "max_tokens": 48, **fields}
    return GenerationRequest(**values)  # type: ignore[arg-type]  # values of mixed types by name


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(defaults=LoadOptions(num_ctx=1024)) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def source() -> ModelSource:
    return source_of(smollm2(), "smol")


def answer(supervisor: Supervisor, source: ModelSource, request: GenerationRequest) -> str:
    return "".join(delta.text for delta in supervisor.generate(source, request))


def test_a_question_is_answered_in_pieces(supervisor: Supervisor, source: ModelSource) -> None:
    deltas = list(supervisor.generate(source, ask("Name three colours.")))
    assert "Red" in "".join(delta.text for delta in deltas)
    assert len(deltas) > 5
    end = deltas[-1]
    assert end.finish is FinishReason.STOP
    assert end.usage is not None
    assert end.usage.prompt_tokens == 13
    assert end.usage.completion_tokens == sum(delta.tokens for delta in deltas)
    assert min(end.usage.prompt_ns, end.usage.decode_ns) > 0
    assert deltas[0].usage is not None
    assert deltas[0].usage.prompt_tokens == 13
    assert not any(delta.usage for delta in deltas[1:-1])


def test_user_text_never_becomes_a_control_token(
    supervisor: Supervisor, source: ModelSource
) -> None:
    marker = "<|im_start|>"
    assert len(supervisor.tokenize(source, marker, special=True)) == 1
    assert len(supervisor.tokenize(source, marker, special=False)) > 1


def test_text_survives_tokens(supervisor: Supervisor, source: ModelSource) -> None:
    text = "Zwölf Boxkämpfer – 猫が好き 🐈"
    assert supervisor.detokenize(source, supervisor.tokenize(source, text)) == text


def test_a_stop_text_ends_the_answer_and_is_left_out(
    supervisor: Supervisor, source: ModelSource
) -> None:
    deltas = list(supervisor.generate(source, ask("Name three colours.", stop=("\n2. B",))))
    assert "".join(delta.text for delta in deltas) == "1. Red"
    assert deltas[-1].finish is FinishReason.STOP
    assert deltas[-1].stop_text == "\n2. B"


def test_max_tokens_ends_the_answer(supervisor: Supervisor, source: ModelSource) -> None:
    for limit in (0, 1, 3):
        deltas = list(supervisor.generate(source, ask("Count to 100.", max_tokens=limit)))
        assert deltas[-1].finish is FinishReason.LENGTH
        assert sum(delta.tokens for delta in deltas) == limit


def test_a_seed_repeats_an_answer(supervisor: Supervisor, source: ModelSource) -> None:
    hot = SamplingParams(temperature=1.5, seed=7)
    first, second = (
        answer(supervisor, source, ask("Tell a story.", sampling=hot, max_tokens=24))
        for _ in range(2)
    )
    assert first == second


def test_logit_bias_forbids_a_token(supervisor: Supervisor, source: ModelSource) -> None:
    (red,) = supervisor.tokenize(source, " Red")
    biased = SamplingParams(temperature=0, logit_bias={red: -100.0})
    assert " Red" not in answer(supervisor, source, ask("Name three colours.", sampling=biased))


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(seed=1, mirostat=1),
        SamplingParams(seed=1, mirostat=2),
        SamplingParams(seed=1, xtc_probability=0.5, top_k=0),
        SamplingParams(seed=1, dry_multiplier=0.8, repeat_penalty=1.2, repeat_last_n=-1),
        SamplingParams(seed=1, top_n_sigma=1.0, typical_p=0.9, min_p=0.05, top_k=0, top_p=1),
        SamplingParams(seed=1, temperature=1e30, top_k=0, presence_penalty=-2),
        SamplingParams(seed=1, temperature=1e-30, top_p=0, typical_p=0, min_p=1),
    ],
    ids=["mirostat1", "mirostat2", "xtc", "dry", "sigma", "hot", "cold"],
)
def test_every_sampler_draws_reproducibly(
    supervisor: Supervisor, source: ModelSource, sampling: SamplingParams
) -> None:
    request = ask("Tell me about rivers.", sampling=sampling, max_tokens=8)
    first, second = (answer(supervisor, source, request) for _ in range(2))
    assert first == second


def test_logprobs_name_the_drawn_token_and_the_likeliest(
    supervisor: Supervisor, source: ModelSource
) -> None:
    deltas = list(supervisor.generate(source, ask("Name three colours.", logprobs=3)))
    tokens = [entry for delta in deltas for entry in delta.logprobs]
    assert b"".join(token.data for token in tokens).decode() == "".join(d.text for d in deltas)
    for token in tokens:
        assert len(token.top) == 3
        assert token.top[0].data == token.data
        assert token.logprob == token.top[0].logprob <= 0


def test_logprobs_are_the_models_also_under_a_grammar(
    supervisor: Supervisor, source: ModelSource
) -> None:
    def first(**fields: object) -> TokenLogprob:
        request = ask("Name three colours.", logprobs=4, max_tokens=4, **fields)
        deltas = supervisor.generate(source, request)
        return next(entry for delta in deltas for entry in delta.logprobs)

    plain, held = first(), first(constraint=Constraint('start: "{}"'))
    assert held.data.startswith(b"{")
    assert held.logprob < plain.top[0].logprob
    assert [entry.data for entry in held.top] == [entry.data for entry in plain.top]
    for one, other in zip(held.top, plain.top, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.5)


def test_a_deterministic_request_repeats_beside_others(
    supervisor: Supervisor, source: ModelSource
) -> None:
    hot = SamplingParams(temperature=1.2, seed=11)
    request = ask("Tell a story.", sampling=hot, max_tokens=12, deterministic=True)
    alone = answer(supervisor, source, request)
    others = [supervisor.generate(source, ask("Count to 50.", max_tokens=30)) for _ in range(2)]
    beside = answer(supervisor, source, request)
    assert beside == alone
    assert all(list(other)[-1].finish for other in others)


def test_a_full_context_goes_on_or_ends_as_asked(source: ModelSource) -> None:
    biased = SamplingParams(temperature=1, seed=1, logit_bias={2: -100.0, 0: -100.0})
    with Supervisor(defaults=LoadOptions(num_ctx=128, num_thread=1)) as supervisor:
        for shift, most in ((True, 200), (False, 128)):
            request = ask("Write a long story.", sampling=biased, max_tokens=200, shift=shift)
            usage = list(supervisor.generate(source, request))[-1].usage
            assert usage is not None
            assert usage.completion_tokens == (200 if shift else most - usage.prompt_tokens + 1)


def test_what_was_computed_and_shared_is_counted(source: ModelSource) -> None:
    with Supervisor(defaults=LoadOptions(num_ctx=1024, num_parallel=2)) as supervisor:
        asked = [ask("Name three colours.", max_tokens=2), ask("Name three rivers.", max_tokens=2)]
        usages = [list(supervisor.generate(source, one))[-1].usage for one in asked]
        assert usages[0] is not None
        assert usages[1] is not None
        stats = supervisor.loaded()[0].stats
    assert stats.prompt_tokens_shared == usages[1].cached_tokens > 0
    known = stats.prompt_tokens_computed + stats.prompt_tokens_shared
    assert known == usages[0].prompt_tokens + usages[1].prompt_tokens
    assert (stats.answer_tokens, stats.running, stats.waiting) == (4, 0, 0)
    assert 0 < stats.cells_used < stats.cells == 2048


def test_parallel_requests_answer_like_lonely_ones(
    supervisor: Supervisor, source: ModelSource
) -> None:
    questions = ["Name three colours.", "What is the capital of France?", "Say hello.", "Who am I?"]
    alone = [answer(supervisor, source, ask(question, max_tokens=12)) for question in questions]
    streams = [supervisor.generate(source, ask(question, max_tokens=12)) for question in questions]
    together = ["".join(delta.text for delta in stream) for stream in streams]
    assert together == alone


def test_a_cancelled_request_ends_soon(supervisor: Supervisor, source: ModelSource) -> None:
    stream = supervisor.generate(source, ask("Count to 1000.", max_tokens=None))
    next(iter(stream))
    stream.cancel()
    end = list(stream)[-1]
    assert end.finish is FinishReason.CANCELLED
    assert supervisor.loaded()[0].busy == 0


def test_a_long_prompt_is_cut_and_says_so(supervisor: Supervisor, source: ModelSource) -> None:
    deltas = list(supervisor.generate(source, ask("word " * 3000, max_tokens=2)))
    usage = deltas[-1].usage
    assert usage is not None
    assert usage.prompt_tokens + usage.truncated_tokens > 3000
    assert usage.prompt_tokens <= 1022


def test_a_long_prompt_is_refused_where_it_may_not_be_cut(
    supervisor: Supervisor, source: ModelSource
) -> None:
    with pytest.raises(ContextOverflow) as caught:
        supervisor.generate(source, ask("word " * 3000, truncate=False))
    assert caught.value.limit == 1024
    assert caught.value.wanted > 3000


def test_an_empty_prompt_is_answered(supervisor: Supervisor, source: ModelSource) -> None:
    request = GenerationRequest((), sampling=GREEDY, max_tokens=2)
    assert list(supervisor.generate(source, request))[-1].finish is not None


@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT"])
def test_a_dead_runner_is_named_and_the_next_request_works(
    supervisor: Supervisor, source: ModelSource, name: str
) -> None:
    stream = supervisor.generate(source, ask("Count to 1000.", max_tokens=None))
    next(iter(stream))
    os.kill(stream.model.pid, signal.Signals[name])
    with pytest.raises(RunnerDied, match=name) as caught:
        list(stream)
    assert caught.value.signal == name
    assert answer(supervisor, source, ask("Say hello."))


def test_a_runner_that_died_idle_is_replaced(supervisor: Supervisor, source: ModelSource) -> None:
    os.kill(supervisor.load(source).pid, signal.SIGKILL)
    assert answer(supervisor, source, ask("Say hello."))


def test_other_load_options_load_the_model_again(
    supervisor: Supervisor, source: ModelSource
) -> None:
    before = supervisor.load(source)
    after = supervisor.load(source, options=LoadOptions(num_ctx=512))
    assert after.info.context_length == 512
    assert after.pid != before.pid
    assert after.load_ns > 0
    assert supervisor.load(source).load_ns == 0


def test_many_callers_load_a_model_once(source: ModelSource) -> None:
    pids: list[int] = []
    with Supervisor(defaults=LoadOptions(num_ctx=256)) as supervisor:
        threads = [
            threading.Thread(target=lambda: pids.append(supervisor.load(source).pid))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1


def test_keep_alive_zero_unloads_after_the_answer(source: ModelSource) -> None:
    with Supervisor(defaults=LoadOptions(num_ctx=256)) as supervisor:
        stream = supervisor.generate(source, ask("Hello", max_tokens=2), keep_alive_s=0)
        list(stream)
        wait_for_end(stream.model.pid)
        assert supervisor.loaded() == ()


def test_unload_lets_running_requests_finish(source: ModelSource) -> None:
    with Supervisor(defaults=LoadOptions(num_ctx=256)) as supervisor:
        stream = supervisor.generate(source, ask("Count to 100.", max_tokens=16))
        assert supervisor.unload(source.digest)
        assert supervisor.loaded() == ()
        assert list(stream)[-1].finish is FinishReason.LENGTH
        wait_for_end(stream.model.pid)
        assert not supervisor.unload(source.digest)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))
    with Supervisor() as supervisor:
        with pytest.raises(InvalidGGUF, match="of bad"):
            supervisor.load(source_of(bad, "bad"))
        assert supervisor.loaded() == ()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with Supervisor() as supervisor, pytest.raises(LoadError, match="No such file"):
        supervisor.load(source_of(tmp_path / "none.gguf", "gone"))


def test_sixty_thousand_equal_letters_are_tokenised(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "tiny.gguf", context=512)
    request = GenerationRequest((Segment("a" * 60_000),), sampling=GREEDY, max_tokens=2)
    with Supervisor() as supervisor:
        end = list(supervisor.generate(source_of(model, "tiny"), request))[-1]
    assert end.usage is not None
    assert end.usage.truncated_tokens > 50_000


def test_no_runner_outlives_a_killed_parent() -> None:
    script = textwrap.dedent(
        """
        import sys
        from support.models import smollm2, source_of
        from pannier.runtime.request import LoadOptions
        from pannier.runtime.supervisor import Supervisor
        supervisor = Supervisor(defaults=LoadOptions(num_ctx=256))
        print(supervisor.load(source_of(smollm2())).pid, flush=True)
        sys.stdin.read()
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_for_end(pid)
