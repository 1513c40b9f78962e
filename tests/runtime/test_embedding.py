from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.models import smollm2, source_of
from support.tinyarch import tiny
from support.tinybert import tiny_bert

from pannier.runtime.backend import Row
from pannier.runtime.embedding import Embedder, fit, normalised
from pannier.runtime.embeddingdesk import EmbeddingDesk
from pannier.runtime.embeddingqueue import EmbeddingJob
from pannier.runtime.errors import ContextOverflow, EngineError, UnsupportedRequest
from pannier.runtime.frames import Message
from pannier.runtime.interface import Caller, ModelSource
from pannier.runtime.model import Model
from pannier.runtime.native import native
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.rows import RowBatch
from pannier.runtime.supervisor import Supervisor

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(defaults=LoadOptions(num_ctx=256, num_thread=1)) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return source_of(tiny_bert(tmp_path_factory.mktemp("bert") / "bert.gguf"), "bert")


@pytest.fixture(scope="module")
def decoder() -> ModelSource:
    return source_of(smollm2(), "smol")


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_texts_embedded_together_are_as_embedded_alone(
    supervisor: Supervisor, kind: str, request: pytest.FixtureRequest
) -> None:
    source = request.getfixturevalue(kind)
    texts = ["a cat sat on the mat", "apple pie is good", "a llama"]
    together = supervisor.embed(source, texts)
    for text, row in zip(texts, together.rows, strict=True):
        (alone,) = supervisor.embed(source, [text]).rows
        assert math.isclose(dot(alone, alone), 1, abs_tol=1e-5)
        assert dot(alone, row) > 0.999


def test_a_decoders_last_token_is_pooled_as_in_one_decode_of_all_tokens() -> None:
    native().start()
    model = Model.load([smollm2()], LoadOptions(), on_progress=lambda _: True)
    embedder = Embedder(model, context_length=1024, threads=1)
    # The longer one has more tokens than one part of a decode.
    given = ("one two three", "river stone " * 300)
    texts = [model.tokenize(text, special=False) for text in given]
    job = EmbeddingJob(1, texts)
    embedder.compute([(job, 0), (job, 1)])
    embedder.close()
    for text, vector in zip(texts, job.vectors, strict=True):
        whole = pooled_of_all(model, text)
        assert dot(list(array("f", vector)), list(whole)) > 0.999
    model.close()


def pooled_of_all(model: Model, tokens: list[int]) -> array[float]:
    """What llama.cpp pools by itself where every row of a text is an output."""
    api = model.native.api
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 1024
    params.embeddings, params.pooling_type = True, api.LLAMA_POOLING_TYPE_LAST
    context = api.llama_init_from_model(model.handle, params)
    rows = [Row(token, at, 0, True) for at, token in enumerate(tokens)]
    assert api.llama_decode(context, RowBatch(api, 1024).fill(rows)) == 0
    pointer = api.llama_get_embeddings_seq(context, 0)
    values = array("f", ctypes.string_at(pointer, 4 * model.embedding_length))
    api.llama_free(context)
    return normalised(values)


def test_texts_that_nobody_waits_for_are_given_up(
    supervisor: Supervisor, encoder: ModelSource
) -> None:
    texts = ["apple pie is good " * 20] * 20_000
    with pytest.raises(EngineError, match="cancelled"):
        supervisor.embed(encoder, texts, caller=Caller(gone=lambda: True))
    assert len(supervisor.embed(encoder, texts[:1]).rows) == 1
    assert supervisor.loaded()[0].busy == 0


@pytest.mark.parametrize("architecture", ["mamba", "jamba"])
def test_models_with_states_embed_together_as_alone(
    supervisor: Supervisor, tmp_path: Path, architecture: str
) -> None:
    source = source_of(tiny(architecture, tmp_path / "tiny.gguf"), architecture)
    texts = [f"the llama {number}" * (1 + number % 3) for number in range(20)]
    together = supervisor.embed(source, texts).rows
    for number in (0, 11, 19):
        (alone,) = supervisor.embed(source, texts[number : number + 1]).rows
        assert dot(alone, together[number]) > 0.999


def test_more_texts_than_a_batch_holds_come_back_in_order(
    supervisor: Supervisor, encoder: ModelSource
) -> None:
    texts = ["apple " * (1 + number % 9) for number in range(200)]
    rows = supervisor.embed(encoder, texts).rows
    assert len(rows) == 200
    assert dot(rows[3], rows[12]) > 0.999
    assert dot(rows[3], rows[4]) < 0.9999


def test_no_texts_are_no_rows_and_an_empty_text_is_one(
    supervisor: Supervisor, encoder: ModelSource
) -> None:
    assert supervisor.embed(encoder, []).rows == []
    assert len(supervisor.embed(encoder, [""]).rows[0]) == 32


def test_a_long_text_is_cut_or_refused(supervisor: Supervisor, encoder: ModelSource) -> None:
    cut = supervisor.embed(encoder, ["cat " * 500, "cat"])
    assert cut.tokens == 64 + 3
    assert cut.truncated == 500 + 2 - 64
    with pytest.raises(ContextOverflow):
        supervisor.embed(encoder, ["cat " * 500], truncate=False)


def test_a_closing_token_survives_the_cut() -> None:
    assert fit([1, 2, 3, 4, 9], 3, end_tokens=frozenset({9})) == [1, 2, 9]


def test_an_encoder_generates_no_text(supervisor: Supervisor, encoder: ModelSource) -> None:
    with pytest.raises(UnsupportedRequest, match="does not generate"):
        supervisor.generate(encoder, GenerationRequest((Segment("hello"),)))


def test_a_ranker_scores_texts(supervisor: Supervisor, tmp_path: Path) -> None:
    ranker = source_of(tiny_bert(tmp_path / "ranker.gguf", ranks=True), "ranker")
    scores = supervisor.rank(ranker, "cat", ["a cat sat", "apple pie", "a cat sat"])
    assert [len(row) for row in scores.rows] == [1, 1, 1]
    assert scores.rows[0] == pytest.approx(scores.rows[2], abs=1e-4)
    assert scores.rows[0] != pytest.approx(scores.rows[1], abs=1e-4)


def test_an_embedding_model_does_not_rank(supervisor: Supervisor, encoder: ModelSource) -> None:
    with pytest.raises(UnsupportedRequest, match="does not rank"):
        supervisor.rank(encoder, "cat", ["dog"])


def test_embedding_and_chat_share_a_model(supervisor: Supervisor, decoder: ModelSource) -> None:
    request = GenerationRequest(
        (Segment("Once upon a time"),), sampling=SamplingParams(temperature=0), max_tokens=20
    )
    stream = supervisor.generate(decoder, request)
    rows = supervisor.embed(decoder, ["one", "two"]).rows
    assert len(rows) == 2
    usage = list(stream)[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 20


@pytest.fixture
def sent() -> list[Message]:
    """What a desk has sent."""
    return []


@pytest.fixture
def desk(tmp_path: Path, sent: list[Message]) -> Iterator[EmbeddingDesk]:
    native().start()
    model = Model.load([tiny_bert(tmp_path / "bert.gguf")], LoadOptions())
    yield EmbeddingDesk(model, context_length=64, threads=1, send=sent.append)
    model.close()


def ask(desk: EmbeddingDesk, key: int, texts: list[str], *, client: str = "") -> None:
    facts = {"op": "embed", "key": key, "texts": texts, "truncate": True}
    desk.add(desk.prepare({**facts, "client": client, "priority": 0}))


def test_what_nobody_waits_for_any_more_is_not_computed(
    desk: EmbeddingDesk, sent: list[Message]
) -> None:
    ask(desk, 1, ["a cat"] * 1000)
    desk.step(None)
    desk.cancel(1)
    assert desk.is_idle
    (end,) = sent
    assert end["pieces"][0][0] == 1
    desk.cancel(1)
    assert sent == [end]


def test_one_text_is_answered_before_the_thousands_of_another_client(
    desk: EmbeddingDesk, sent: list[Message]
) -> None:
    ask(desk, 1, ["a cat"] * 1000, client="a")
    desk.step(None)
    ask(desk, 2, ["a dog"], client="b")
    desk.step(None)
    assert [message["key"] for message in sent] == [2]


def test_beside_streams_one_text_follows_the_other(
    desk: EmbeddingDesk, sent: list[Message]
) -> None:
    ask(desk, 1, ["a cat"] * 3)
    desk.step(None)
    ask(desk, 2, ["a cat", "a dog"])
    desk.step(0.0)
    assert [message["key"] for message in sent] == [1]
    desk.step(0.0)
    assert [message["key"] for message in sent] == [1, 2]
