"""What supervisor and runner say to each other: length-prefixed JSON over one Unix socket.

A message is one JSON object with `op`; its length goes before it as four bytes, little endian.
JSON and not pickle, since a runner that a hostile model file has taken over must not gain anything
in the supervisor. Nothing here knows what the operations mean, but for the forms of requests.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

from .answer import Piece
from .constraint import Constraint
from .request import (
    FinishReason,
    GenerationRequest,
    LoadOptions,
    SamplingParams,
    Segment,
    TokenLogprob,
    Usage,
)
from .stats import EngineStats

# A prompt of a million tokens is about 5 MB of text; nothing longer crosses.
MAX_FRAME = 256 << 20
_LENGTH = struct.Struct("<I")
_encode = json.JSONEncoder(separators=(",", ":")).encode

Message = dict[str, Any]


class Channel:
    """One end of the socket. One thread may read, and one at a time may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb", buffering=1 << 16)

    def send(self, message: Message) -> None:
        """Send one message; blocks while the other end does not read.

        Raises:
            OSError: the other end is gone.
        """
        data = _encode(message).encode()
        self._connection.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Message | None:
        """The next message, None at the end or where the other end talks nonsense."""
        try:
            head = self._reader.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return None
            (length,) = _LENGTH.unpack(head)
            if length > MAX_FRAME:
                return None
            data = self._reader.read(length)
            message = json.loads(data) if len(data) == length else None
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def set_timeout(self, seconds: float | None) -> None:
        """How long `receive` waits before it gives up, None for ever. Not for a used reader."""
        self._connection.settimeout(seconds)

    def close(self) -> None:
        """Close this end. Call `shut` first where another thread may be reading."""
        self._reader.close()
        self._connection.close()

    def shut(self) -> None:
        """End the conversation: a `receive` in another thread returns None."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def encode_request(request: GenerationRequest) -> Message:
    """A request as JSON values; `decode_request` is its inverse."""
    values = _fields(request)
    values["prompt"] = [[part.text, part.special, part.image] for part in request.prompt]
    values["images"] = [base64.b64encode(image).decode() for image in request.images]
    values["sampling"] = _fields(request.sampling)
    values["sampling"]["logit_bias"] = list(request.sampling.logit_bias.items())
    if request.constraint is not None:
        values["constraint"] = _fields(request.constraint)
    return values


def decode_request(values: Mapping[str, Any]) -> GenerationRequest:
    """The request that `encode_request` turned into `values`."""
    sampling = dict(values["sampling"])
    sampling["logit_bias"] = {int(token): float(bias) for token, bias in sampling["logit_bias"]}
    constraint = values["constraint"]
    if constraint is not None:
        tags = constraint["thinking"]
        lists = {
            "thinking": None if tags is None else (str(tags[0]), str(tags[1])),
            "marks": tuple(constraint["marks"]),
            "closing": tuple(constraint["closing"]),
            "stems": tuple(constraint["stems"]),
        }
        constraint = Constraint(**{**constraint, **lists})
    rest = {
        "constraint": constraint,
        "prompt": tuple(Segment(*part) for part in values["prompt"]),
        "images": tuple(base64.b64decode(image) for image in values["images"]),
        "sampling": SamplingParams(**sampling),
        "context": tuple(values["context"]),
        "stop": tuple(values["stop"]),
        "adapters": None
        if values["adapters"] is None
        else tuple((int(number), float(scale)) for number, scale in values["adapters"]),
    }
    return GenerationRequest(**{**values, **rest})


def encode_options(options: LoadOptions) -> Message:
    """Load options as JSON values."""
    return _fields(options)


def decode_options(values: Mapping[str, Any]) -> LoadOptions:
    """The inverse of `encode_options`."""
    return LoadOptions(**{**values, "tensor_split": tuple(values["tensor_split"])})


def encode_piece(piece: Piece) -> list[Any]:
    """What a step adds to an answer, as JSON values; most have three."""
    if piece.usage is None and piece.error is None and not piece.logprobs:
        return [piece.key, piece.text, piece.tokens]
    usage = None if piece.usage is None else encode_usage(piece.usage)
    logprobs = [encode_logprob(value) for value in piece.logprobs]
    end = [piece.finish, usage, piece.stop_text, piece.context, piece.error, logprobs]
    return [piece.key, piece.text, piece.tokens, *end]


def encode_usage(usage: Usage) -> list[int]:
    """A usage as a list of numbers, in the order of its fields."""
    return list(_fields(usage).values())


def decode_usage(values: list[int]) -> Usage:
    """The inverse of `encode_usage`."""
    return Usage(*values)


def encode_stats(stats: EngineStats) -> list[int]:
    """Stats as a list of numbers, in the order of their fields."""
    return list(_fields(stats).values())


def decode_stats(values: list[int]) -> EngineStats:
    """The inverse of `encode_stats`."""
    return EngineStats(*values)


def decode_finish(value: str | None) -> FinishReason | None:
    """A finish reason by its name."""
    return None if value is None else FinishReason(value)


def encode_logprob(value: TokenLogprob) -> list[Any]:
    """A token's probability as JSON values; bytes as Latin-1 text."""
    top = [[entry.data.decode("latin-1"), entry.logprob] for entry in value.top]
    return [value.data.decode("latin-1"), value.logprob, top]


def decode_logprob(values: list[Any]) -> TokenLogprob:
    """The inverse of `encode_logprob`."""
    data, logprob, top = values
    best = tuple(TokenLogprob(text.encode("latin-1"), value) for text, value in top)
    return TokenLogprob(data.encode("latin-1"), logprob, best)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
