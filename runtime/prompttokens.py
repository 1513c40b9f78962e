"""A request's prompt as tokens of one model, and what of it goes where it is too long."""

from __future__ import annotations

from collections.abc import Sequence

from .model import Model
from .pictures import Picture, Span, lay_out
from .request import GenerationRequest


def prompt_pieces(model: Model, request: GenerationRequest) -> list[list[int]]:
    """The tokens of what goes before a prompt, and of each of its segments; an image has none.

    Before it go those of its context, and a first token where the model wants one.
    """
    texts = [
        model.tokenize(segment.text, special=segment.special) if segment.image is None else []
        for segment in request.prompt
    ]
    known = range(model.vocabulary_size)
    front = [token for token in request.context if token in known]
    begun = (
        text[:1]
        for text, segment in zip(texts, request.prompt, strict=True)
        if text or segment.image is not None
    )
    if model.adds_bos and model.bos >= 0 and next(begun, [model.bos]) != [model.bos]:
        front.append(model.bos)
    if not front and not any(texts):
        front.append(max(0, model.bos if model.bos >= 0 else model.eos))
    return [front, *texts]


def with_pictures(
    model: Model, request: GenerationRequest, pictures: Sequence[Picture]
) -> tuple[list[int], tuple[Span, ...]]:
    """All tokens of a prompt, and where its images stand.

    An image is never the end, since its rows have no logits to draw a token from.
    """
    front, *texts = prompt_pieces(model, request)
    pieces: list[Sequence[int] | Picture] = [front]
    for segment, text in zip(request.prompt, texts, strict=True):
        pieces.append(text if segment.image is None else pictures[segment.image])
    tokens, spans = lay_out(pieces)
    if spans and spans[-1].end == len(tokens):
        tokens += model.tokenize("\n", special=False)
    return tokens, spans


def answer_room(request: GenerationRequest, num_prompt: int, limit: int) -> int:
    """Tokens within which an answer in a form must be whole: those asked for, else the context."""
    here = limit - num_prompt
    if request.max_tokens is None:
        return here
    return request.max_tokens if request.shift else min(here, request.max_tokens)


def truncate(tokens: list[int], request: GenerationRequest, limit: int) -> tuple[list[int], int]:
    """Cut the middle out of a prompt, so that it and an answer fit `limit` (≥ 2) positions.

    The first `num_keep` tokens stay, and as many of the last as leave a quarter of the context, or
    what the request wants if that is less, for the answer. Returns the tokens and how many went.
    """
    wanted = limit if request.max_tokens is None else request.max_tokens
    room = limit - max(1, min(wanted, limit // 4))
    keep = max(0, min(request.num_keep, room // 2))
    rest = tokens[keep:]
    tail = rest[len(rest) - (room - keep) :]
    return tokens[:keep] + tail, len(rest) - len(tail)
