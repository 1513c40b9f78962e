"""Answers as streams of lines: NDJSON (Ollama) and server-sent events (OpenAI, Anthropic).

The first item is made before the status goes out, so an early failure still gets a proper status;
a later one becomes the last item. A stream whose client goes away is closed, whatever it waits for.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from flask import Response, g, request

from pannier.pkgmgr.errors import PannierError

from .answer import Answer, Piece
from .gateway import ClientGone
from .service import Call
from .urgency import urgency_of

log = logging.getLogger(__name__)

# Between two signs of life on an event stream; proxies commonly cut after 60 s of silence.
PING_S = 15.0
JSON = "application/json; charset=utf-8"
TRUNCATED_HEADER = "X-Pannier-Truncated"
TRUNCATED_MESSAGES_HEADER = "X-Pannier-Truncated-Messages"
PING = b": ping\n\n"

# How long each of several answers is listened to in turn.
_TURN_S = 0.005

# `json.dumps` with arguments makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# An item is one JSON object; with a name it is an event of that name; None is a sign of life.
Item = Mapping[str, Any] | tuple[str, Mapping[str, Any]] | None
Close = Callable[[], object]


def client_gone() -> Callable[[], bool]:
    """Whether the current request's client has closed; for servers that cannot tell, never."""
    gone: Callable[[], bool] = request.environ.get("pannier.client_gone", lambda: False)
    return gone


def from_client(call: Call, fields: Mapping[str, Any] = MappingProxyType({})) -> Call:
    """A call with what the current request tells: whose it is, and how urgent.

    Args:
        call: what is asked.
        fields: where `priority` and `deadline` may stand, beside their headers.

    Raises:
        RequestError: 400, where one of them is wrong.
    """
    urgency = urgency_of(dict(request.headers), fields)
    arrived: float = g.get("arrived", time.monotonic())
    return replace(
        call,
        client=request.remote_addr or "",
        priority=urgency.priority,
        deadline=None if urgency.deadline_s is None else arrived + urgency.deadline_s,
    )


def marked(response: Response, *answers: Answer) -> Response:
    """Name the tokens and messages that a context had no room for, as far as is known by now."""
    return with_truncation(
        response,
        max(answer.truncated_tokens for answer in answers),
        messages=max(answer.trimmed.messages if answer.trimmed else 0 for answer in answers),
    )


def with_truncation(response: Response, tokens: int, *, messages: int = 0) -> Response:
    """An answer with the numbers of tokens and messages that were left out, if any were."""
    if tokens or messages:
        response.headers[TRUNCATED_HEADER] = str(tokens)
    if messages:
        response.headers[TRUNCATED_MESSAGES_HEADER] = str(messages)
    return response


def to_json(value: Mapping[str, Any]) -> bytes:
    """One JSON object in one line, as UTF-8."""
    return _encode(value).encode()


def ndjson(
    items: Iterable[Item], *, fault: Callable[[BaseException], Item], close: Close
) -> Response:
    """One object per line; a failure in the middle is the last line."""
    return _response(items, "application/x-ndjson", _line, fault, close, end=b"")


def sse(
    items: Iterable[Item],
    *,
    fault: Callable[[BaseException], Item],
    close: Close,
    end: bytes = b"",
) -> Response:
    """Server-sent events (HTML living standard, "Server-sent events"); `end` closes the stream."""
    return _response(items, "text/event-stream", _event, fault, close, end=end)


def _response(
    items: Iterable[Item],
    content_type: str,
    encode: Callable[[Item], bytes],
    fault: Callable[[BaseException], Item],
    close: Close,
    *,
    end: bytes,
) -> Response:
    iterator = iter(items)
    try:
        first = next(iterator)
    except BaseException:
        close()
        raise
    body = _body(encode(first), iterator, encode, fault, end)
    response = Response(body, content_type=content_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(close)
    return response


def _body(
    first: bytes,
    items: Iterator[Item],
    encode: Callable[[Item], bytes],
    fault: Callable[[BaseException], Item],
    end: bytes,
) -> Iterator[bytes]:
    yield first
    try:
        for item in items:
            yield encode(item)
    except ClientGone:
        return
    except PannierError as error:
        log.info("answer broke off: %s", error)
        yield encode(fault(error))
    except Exception as error:
        # The outermost frame of the answer: its status is out, only the stream can still speak.
        log.exception("answer broke off")
        yield encode(fault(error))
        return
    yield end


def _line(item: Item) -> bytes:
    assert isinstance(item, Mapping)
    return to_json(item) + b"\n"


def _event(item: Item) -> bytes:
    if item is None:
        return PING
    if isinstance(item, tuple):
        return b"event: " + item[0].encode() + b"\ndata: " + to_json(item[1]) + b"\n\n"
    return b"data: " + to_json(item) + b"\n\n"


def ticking(answer: Answer) -> Iterator[Piece | None]:
    """The pieces of an answer, and None wherever the next one is long in coming."""
    while True:
        piece = answer.next(PING_S)
        yield piece
        if piece is not None and piece.finish is not None:
            return


def merged(answers: Sequence[Answer]) -> Iterator[tuple[int, Piece] | None]:
    """The pieces of several answers as they come, each with its answer's number."""
    if len(answers) == 1:
        for piece in ticking(answers[0]):
            yield None if piece is None else (0, piece)
        return
    running = dict(enumerate(answers))
    heard = time.monotonic()
    while running:
        for number, answer in tuple(running.items()):
            piece = answer.next(_TURN_S)
            if piece is None:
                continue
            heard = time.monotonic()
            yield number, piece
            if piece.finish is not None:
                del running[number]
        if time.monotonic() > heard + PING_S:
            heard = time.monotonic()
            yield None
