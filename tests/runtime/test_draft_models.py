"""Draft models in runners: SmolLM2 with a smaller copy of itself, and tiny ones that do not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.engines import Bench
from support.gguf import WORDS, tiny_llama, tiny_shards
from support.models import smollm2, source_of
from support.tinyarch import tiny

from pannier.pkgmgr.errors import InvalidGGUF
from pannier.runtime import constrain
from pannier.runtime.answer import Piece
from pannier.runtime.constrainer import Constrainer
from pannier.runtime.constraingate import Gate
from pannier.runtime.draft import DraftModel
from pannier.runtime.draftcontext import load_draft
from pannier.runtime.errors import LoadError
from pannier.runtime.interface import ModelSource
from pannier.runtime.model import Model
from pannier.runtime.native import native
from pannier.runtime.prompttokens import prompt_pieces
from pannier.runtime.quantize import quantize
from pannier.runtime.request import Delta, GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.stats import EngineStats
from pannier.runtime.supervisor import Supervisor

pytestmark = pytest.mark.engine

GREEDY = SamplingParams(temperature=0)
SEEDED = SamplingParams(temperature=0.8, seed=7)
OPTIONS = LoadOptions(num_ctx=512, num_thread=1)
DIGITS = constrain.regex("[0-9]+( [0-9]+)*")


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "draft.gguf"
    quantize(smollm2(), path, "q4_0", again=True)
    return path


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(defaults=OPTIONS) as supervisor:
        yield supervisor


def with_draft(source: ModelSource, *paths: Path) -> ModelSource:
    return replace(source, files=replace(source.files, draft=paths))


def ask(text: str, **fields: object) -> GenerationRequest:
    values = {"prompt": (Segment(text),), "sampling": GREEDY, "max_tokens": 24, **fields}
    return GenerationRequest(**values)  # type: ignore[arg-type]  # values of mixed types by name


@dataclass
class Played:
    """What came of one request, in how many steps."""

    pieces: list[Piece]
    steps: int
    stats: EngineStats

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def logprobs(self) -> list[bytes]:
        return [logprob.data for piece in self.pieces for logprob in piece.logprobs]


REQUESTS = {
    "greedy": ask("The capital of France is Paris. The capital of Germany is"),
    "seeded": ask("Once upon a time", sampling=SEEDED),
    "logprobs": ask("One, two, three,", logprobs=2, max_tokens=20),
    "stop": ask("The days of the week are Monday, Tuesday,", stop=("urd",)),
    "grammar": ask("Some numbers:", constraint=DIGITS, max_tokens=20),
}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    native().start()
    model = Model.load([smollm2()], OPTIONS)
    yield model
    model.close()


@pytest.fixture(scope="module")
def drafter(model: Model, draft: Path) -> Iterator[DraftModel]:
    backend, drafter = load_draft(
        [draft],
        OPTIONS,
        vocabulary_size=model.vocabulary_size,
        context_length=512,
        threads=1,
    )
    yield drafter
    backend.close()


def play(model: Model, request: GenerationRequest, drafter: DraftModel | None) -> Played:
    """On a clock that makes drafts cheap: a copy of a model costs too much to pay in earnest."""
    constrainer = Constrainer(
        model.pieces,
        end_tokens=model.end_tokens,
        control_tokens=model.control_tokens,
        eos=model.eos,
        tokenize=lambda text, special: model.tokenize(text, special=special),
    )
    gate = Gate(request.constraint, constrainer, room=25) if request.constraint else None
    pieces = []
    with Bench(model, context=512, max_draft=4 if drafter else 0, drafter=drafter) as bench:
        prompt = [token for piece in prompt_pieces(model, request) for token in piece]
        bench.engine.add(1, request, prompt, gate=gate)
        while not bench.engine.is_idle:
            pieces += bench.engine.step()
        return Played(pieces, bench.backend.steps, bench.engine.stats())


@pytest.mark.parametrize("name", REQUESTS)
def test_answers_are_the_same_in_fewer_steps(name: str, model: Model, drafter: DraftModel) -> None:
    plain, drafted = (play(model, REQUESTS[name], each) for each in (None, drafter))
    assert drafted.text == plain.text
    assert drafted.logprobs == plain.logprobs
    assert drafted.pieces[-1].finish is plain.pieces[-1].finish
    assert drafted.steps < plain.steps
    assert 0 < drafted.stats.tokens_accepted <= drafted.stats.tokens_drafted


def test_a_good_draft_model_saves_most_steps(model: Model, drafter: DraftModel) -> None:
    request = ask("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,", max_tokens=60)
    plain, drafted = (play(model, request, each) for each in (None, drafter))
    assert drafted.text == plain.text
    assert drafted.steps < 0.5 * plain.steps
    assert drafted.stats.tokens_accepted > 0.7 * drafted.stats.tokens_drafted


def test_a_draft_model_that_does_not_fit_is_left_out(
    supervisor: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tiny_llama(tmp_path / "other.gguf", words=[*WORDS[:-1], "▁other"])
    source = with_draft(source_of(tiny_llama(tmp_path / "tiny.gguf"), "tiny"), other)
    with caplog.at_level(logging.WARNING):
        assert list(supervisor.generate(source, ask("hello")))
    assert "tiny goes without its draft model: its token 362 is" in caplog.text


def test_a_draft_model_in_shards_is_used(supervisor: Supervisor, tmp_path: Path) -> None:
    source = source_of(tiny_llama(tmp_path / "tiny.gguf"), "sharded")
    source = with_draft(source, *tiny_shards(tmp_path, count=3, stem="draft"))
    request = ask("hello world", max_tokens=100)
    options = replace(OPTIONS, use_mmap=True)
    assert tokens_of(list(supervisor.generate(source, request, options=options))) > 0
    (model,) = [one for one in supervisor.loaded() if one.source.digest == source.digest]
    mapped = Path(f"/proc/{model.pid}/maps").read_text()
    assert all(path.name in mapped for path in source.files.draft)


def test_a_damaged_draft_model_is_an_error(supervisor: Supervisor, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_llama(tmp_path / "tiny.gguf").read_bytes()[:5000])
    source = with_draft(source_of(tmp_path / "tiny.gguf", "damaged"), broken)
    with pytest.raises(InvalidGGUF, match="the draft model file of damaged"):
        supervisor.load(source)


def test_a_draft_model_that_cannot_take_tokens_back_is_an_error(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    source = source_of(tiny_llama(tmp_path / "tiny.gguf"), "forgetless")
    with pytest.raises(LoadError, match="its draft model cannot take tokens back"):
        supervisor.load(with_draft(source, tiny("mamba", tmp_path / "mamba.gguf")))


def test_zero_turns_the_draft_model_off(supervisor: Supervisor, tmp_path: Path) -> None:
    source = source_of(tiny_llama(tmp_path / "tiny.gguf"), "without")
    source = with_draft(source, tmp_path / "missing.gguf")
    options = replace(OPTIONS, draft_num_predict=0)
    assert list(supervisor.generate(source, ask("hello"), options=options))


def tokens_of(deltas: list[Delta]) -> int:
    return sum(delta.tokens for delta in deltas)
