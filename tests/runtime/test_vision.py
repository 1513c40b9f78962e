"""The engine looks at images: three kinds of projectors, held against the library's own loop."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from support.seeing import CONTEXT, KINDS, Seeing, SlowProjector, looking, texts
from support.tinyvision import png, tiny_projector, tiny_qwen2vl

from pannier.runtime.errors import (
    ContextOverflow,
    InvalidImage,
    LoadError,
    UnsupportedRequest,
)
from pannier.runtime.model import Model
from pannier.runtime.request import GenerationRequest, LoadOptions
from pannier.runtime.vision import Projector

pytestmark = pytest.mark.engine


def free(num_prompt: int) -> None:
    """An answer that nothing restricts."""


@pytest.fixture(scope="module", params=KINDS)
def seeing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seeing]:
    seeing = Seeing(request.param, tmp_path_factory.mktemp(request.param))
    yield seeing
    seeing.close()


@pytest.fixture(scope="module")
def looker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeing]:
    looker = Seeing("qwen2vl_merger", tmp_path_factory.mktemp("looker"))
    yield looker
    looker.close()


def test_an_answer_is_the_one_of_the_librarys_own_loop(seeing: Seeing) -> None:
    parts = ("Two pictures: ", png(), " and ", png(seed=3), " What differs?")
    (asked,) = seeing.ask(looking(*parts))
    assert asked.text == seeing.reference(*parts).decode("utf-8", "replace")


def test_an_image_is_encoded_once_and_its_rows_are_shared(seeing: Seeing) -> None:
    request = looking("Look: ", png(seed=5), " What is it?")
    (first,) = seeing.ask(request)
    looks = seeing.desk.steps
    (second,) = seeing.ask(request)
    assert second.text == first.text
    assert seeing.desk.steps == looks
    assert second.usage.cached_tokens == second.usage.prompt_tokens - 1


def test_another_image_is_another_prompt(seeing: Seeing) -> None:
    front = len(seeing.model.tokenize("Look: ", special=True))
    first, second = (
        seeing.ask(looking("Look: ", png(seed=seed), " What?", logprobs=0))[0] for seed in (6, 7)
    )
    # Tokens that stand before every image: those that begin the text, and one that begins an image.
    assert second.usage.cached_tokens <= front + 2, "rows of one image stood for another"
    assert first.chance != second.chance


def test_requests_with_and_without_images_run_together_as_alone(seeing: Seeing) -> None:
    image = png(64, 48, seed=8)
    requests = [
        looking("Look: ", image, " What is it?", logprobs=0),
        looking("The capital of France is", logprobs=0),
        looking("Look: ", image, " Which colours are there?", logprobs=0),
        looking("Again: ", png(seed=9), image, " Compare.", logprobs=0),
    ]
    together = seeing.ask(*requests)
    alone = []
    for request in requests:
        seeing.engine.scheduler.restart_all()
        alone += seeing.ask(request)
    for one, other in zip(together, alone, strict=True):
        # Kernels for one row and for many differ in the last bits, and Gemma's texts hang on them.
        assert one.chance == pytest.approx(other.chance, abs=0.2)
        assert one.text == other.text or seeing.kind == "gemma3"


def test_an_image_comes_back_with_a_saved_state(seeing: Seeing) -> None:
    request = looking("Look: ", png(seed=10), "7 1 8 2 " * 24 + "What is it?")
    seeing.ask(request)
    (shared,) = seeing.ask(request)
    scheduler = seeing.engine.scheduler
    for slot in tuple(scheduler._finished):
        scheduler._evict(slot)
    (restored,) = seeing.ask(request)
    assert restored.text == shared.text
    assert restored.usage.cached_tokens == restored.usage.prompt_tokens - 1


def test_a_prompt_may_end_with_an_image(seeing: Seeing) -> None:
    parts = ("Look: ", png(seed=11))
    (asked,) = seeing.ask(looking(*parts))
    # Kinds without a token for the end of an image need one to draw from.
    end = ("\n",) if seeing.kind == "mlp" else ()
    assert asked.text == seeing.reference(*parts, *end).decode("utf-8", "replace")


def test_images_beyond_the_context_are_refused(seeing: Seeing) -> None:
    many = [png(64, 64, seed=20 + number) for number in range(90)]
    (asked,) = seeing.ask(looking("Look: ", *many, " What is it?" + " word" * 150))
    assert isinstance(asked.refusal, ContextOverflow)
    assert asked.refusal.wanted > asked.refusal.limit


@pytest.mark.parametrize("kind", ["WEBP", "JPEG", "GIF", "BMP"])
def test_each_kind_of_file_is_decoded(looker: Seeing, kind: str) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png(64, 64, seed=13)))
    picture.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {"quality": 100}))
    answers = looker.ask(
        looking("?", buffer.getvalue(), " What?", logprobs=0),
        looking("?", png(64, 64, seed=13), " What?", logprobs=0),
    )
    # Colours of GIF are those of a palette, and JPEG rounds.
    tolerance = {"JPEG": 2.0, "GIF": 2.0}.get(kind, 0.01)
    assert answers[0].chance == pytest.approx(answers[1].chance, abs=tolerance)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_files_that_are_cut_short_are_refused(looker: Seeing, kind: str) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(64, 64, seed=14))).save(buffer, kind)
    (asked,) = looker.ask(looking("?", buffer.getvalue()[:60], " What?"))
    assert isinstance(asked.refusal, InvalidImage)


def test_broken_images_are_refused(seeing: Seeing) -> None:
    whole = png(seed=12)
    for data in (whole[:60], whole[:40] + bytes(40) + whole[80:], b"no image at all"):
        (asked,) = seeing.ask(looking("Look: ", data, " What is it?"))
        assert isinstance(asked.refusal, InvalidImage)


def test_what_is_cancelled_while_it_is_looked_at_never_reaches_the_engine(tmp_path: Path) -> None:
    seeing = Seeing("qwen2vl_merger", tmp_path, eyes=SlowProjector)
    eyes = seeing.projector
    assert isinstance(eyes, SlowProjector)
    admitted: list[object] = []
    seeing.desk.add(1, looking(png(), "?"), check=free, admit=lambda *seen: admitted.append(seen))
    assert eyes.begun.wait(timeout=30)
    assert seeing.desk.cancel(1)
    eyes.go.set()
    seeing.ask(looking(png(seed=1), "What is it?", max_tokens=1))
    assert admitted == []
    assert not seeing.desk.cancel(1)
    assert seeing.desk.waiting == 0
    seeing.close()


def test_text_is_answered_while_an_image_is_looked_at(tmp_path: Path) -> None:
    seeing = Seeing("qwen2vl_merger", tmp_path, eyes=SlowProjector)
    eyes = seeing.projector
    assert isinstance(eyes, SlowProjector)
    admitted = threading.Event()
    seeing.desk.add(1, looking(png(), "?"), check=free, admit=lambda *_: admitted.set())
    assert eyes.begun.wait(timeout=30)
    seeing.engine.add(2, looking("Hi", max_tokens=3), [5, 6, 7])
    tokens = 0
    while not seeing.engine.is_idle:
        tokens += sum(piece.tokens for piece in seeing.engine.step())
    assert tokens == 3
    assert not admitted.is_set()
    eyes.go.set()
    assert admitted.wait(timeout=30)
    seeing.close()


def test_a_deadline_comes_nearer_while_a_request_is_looked_at(tmp_path: Path) -> None:
    seeing = Seeing("qwen2vl_merger", tmp_path, clock_s=count(100.0, 2.0).__next__)
    admitted: queue.SimpleQueue[GenerationRequest] = queue.SimpleQueue()
    request = replace(looking(png(), "?"), deadline_s=5.0)
    seeing.desk.add(1, request, check=free, admit=lambda later, *_: admitted.put(later))
    assert admitted.get(timeout=30).deadline_s == 3.0
    seeing.close()


def test_an_image_of_one_piece_must_fit_a_batch(tmp_path: Path) -> None:
    seeing = Seeing("gemma3", tmp_path, batch_size=3)
    (asked,) = seeing.ask(looking("Look: ", png(), " What is it?"))
    assert isinstance(asked.refusal, UnsupportedRequest)
    assert asked.refusal.hint == "set num_batch to 4 or more"
    seeing.close()


def test_large_images_take_half_the_context_at_most(looker: Seeing) -> None:
    (asked,) = looker.ask(looking("?", png(400, 300, seed=15), "What is it?"))
    assert CONTEXT // 4 < asked.usage.prompt_tokens < CONTEXT // 2 + 16


@pytest.mark.parametrize("kind", ["hunyuanvl", "deepseek4v"])
def test_kinds_whose_rows_depend_on_their_place_are_refused(tmp_path: Path, kind: str) -> None:
    import gguf

    path = tmp_path / "mmproj.gguf"
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("clip.projector_type", kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = Model.load([tiny_qwen2vl(tmp_path / "text.gguf")], LoadOptions())
    with pytest.raises(LoadError, match=f"type {kind} are not supported"):
        Projector(model, path, threads=1, use_gpu=False, max_cells=64, batch_size=64)
    model.close()


def test_a_projector_for_another_model_is_refused(tmp_path: Path) -> None:
    model = Model.load([tiny_qwen2vl(tmp_path / "text.gguf")], LoadOptions())
    path = tiny_projector(tmp_path / "mmproj.gguf", 576)
    with pytest.raises(LoadError, match="refused the model's projector"):
        Projector(model, path, threads=1, use_gpu=False, max_cells=64, batch_size=64)
    model.close()


def test_a_full_cache_of_cells_preempts_images_too(tmp_path: Path) -> None:
    seeing = Seeing("qwen2vl_merger", tmp_path, cells=512)
    requests = [
        looking(png(64, 64, seed=seed), f" This is {seed}", max_tokens=60) for seed in range(4)
    ]
    crowded = texts(seeing.ask(*requests))
    assert seeing.engine.scheduler.preemptions or len(crowded) == 4
    alone = []
    for request in requests:
        alone += texts(seeing.ask(request))
    assert crowded == alone
    seeing.close()
