"""One running answer: what the engine writes, sorted into text, thinking and tool calls."""

from __future__ import annotations

import secrets
import string
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pannier.runtime.errors import DeadlinePassed
from pannier.runtime.interface import GenerationStream, never
from pannier.runtime.messages import ToolCall
from pannier.runtime.parsers.output import Output, OutputParser
from pannier.runtime.request import Delta, FinishReason, TokenLogprob, Usage
from pannier.runtime.trimming import Trimmed

from .gateway import ClientGone
from .waiting import POLL_S, Gone, check


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer. The last one has `finish`, `usage` and all `thinking_tokens`."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: FinishReason | None = None
    usage: Usage | None = None
    context: tuple[int, ...] = ()
    stop_text: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    thinking_tokens: int = 0


class Answer:
    """One running answer. For one thread; whoever has it closes it.

    Attributes:
        model: the model that answers; its `load_ns` is what this call waited for loading.
        name: the model's shortest name.
        trimmed: the messages that were left out of the prompt; None where all are in.
        usage: what is known so far: nothing, then all about the prompt, at the end all.
    """

    def __init__(
        self,
        stream: GenerationStream,
        name: str,
        *,
        parser: OutputParser,
        began_ns: int,
        gone: Gone = never,
        trimmed: Trimmed | None = None,
        many_calls: bool = True,
    ) -> None:
        """Where not `many_calls`, the answer ends with the first call of a tool."""
        self._stream = stream
        self._parser = parser
        self._gone = gone
        self._began_ns = began_ns
        self._ready: deque[Piece] = deque()
        self._num_calls = 0
        self._many_calls = many_calls
        self._has_called = False
        self._unsorted_tokens = self._thinking_tokens = 0
        self.model = stream.model
        self.name = name
        self.trimmed = trimmed
        self.usage = Usage()

    @property
    def elapsed_ns(self) -> int:
        """Since the call came in."""
        return time.monotonic_ns() - self._began_ns

    @property
    def truncated_tokens(self) -> int:
        """Tokens that were left out because the context is too small, as far as is known."""
        return self.usage.truncated_tokens + (self.trimmed.tokens if self.trimmed else 0)

    def next(self, timeout_s: float) -> Piece | None:
        """The next piece, or None where none came in time.

        Raises:
            StopIteration: after the last piece.
            EngineError: where the request failed.
            ClientGone, DeadlinePassed: where the caller has gone away, or waits no longer; the
                request is cancelled.
        """
        end = time.monotonic() + timeout_s
        while not self._ready:
            delta = self._stream.poll(min(POLL_S, timeout_s))
            if delta is not None:
                self._ready.extend(self._sorted(delta))
                continue
            self._check()
            if time.monotonic() >= end:
                return None
        return self._ready.popleft()

    def __iter__(self) -> Iterator[Piece]:
        """All pieces to the end; raises as `next` does."""
        while True:
            piece = self.next(float("inf"))
            assert piece is not None
            yield piece
            if piece.finish is not None:
                return

    def collect(self) -> Piece:
        """The whole answer as one piece; raises as `next` does."""
        pieces = []
        asked = time.monotonic()
        for piece in self:
            pieces.append(piece)
            if time.monotonic() > asked + POLL_S:
                asked = time.monotonic()
                self._check()
        return joined(pieces)

    def close(self) -> None:
        """End the request, if it has not ended."""
        self._stream.cancel()

    def _check(self) -> None:
        try:
            check(self._gone)
        except (ClientGone, DeadlinePassed):
            self.close()
            raise

    def _sorted(self, delta: Delta) -> Iterator[Piece]:
        """What a delta makes certain: nothing, or one piece for each kind of output."""
        self.usage = delta.usage or self.usage
        logprobs = () if self._has_called else delta.logprobs
        self._unsorted_tokens += delta.tokens
        for output in self._outputs(delta):
            self._thinking_tokens += self._unsorted_tokens if output.thinking else 0
            self._unsorted_tokens = 0
            calls = tuple(self._numbered(call) for call in output.tool_calls)
            if calls and not self._many_calls:
                calls, self._has_called = calls[:1], True
            yield Piece(output.content, output.thinking, calls, logprobs=logprobs)
            logprobs = ()
            if self._has_called:
                self.close()
                break
        if delta.finish is not None or logprobs:
            was_closed = self._has_called and delta.finish is FinishReason.CANCELLED
            yield Piece(
                finish=FinishReason.STOP if was_closed else delta.finish,
                usage=delta.usage if delta.finish is not None else None,
                context=delta.context,
                stop_text=delta.stop_text,
                logprobs=logprobs,
                thinking_tokens=0 if delta.finish is None else self._thinking_tokens,
            )

    def _outputs(self, delta: Delta) -> Iterator[Output]:
        if not self._has_called:
            yield from self._parser.feed(delta.text) if delta.text else ()
        if not self._has_called and delta.finish is not None:
            yield from self._parser.finish()

    def _numbered(self, call: ToolCall) -> ToolCall:
        """A call with its place among the answer's calls, and an id that is new."""
        index, self._num_calls = self._num_calls, self._num_calls + 1
        return replace(call, index=index, id=call.id or _new_call_id())


def joined(pieces: list[Piece]) -> Piece:
    """All pieces of an answer in one."""
    last = pieces[-1]
    return replace(
        last,
        text="".join(piece.text for piece in pieces),
        thinking="".join(piece.thinking for piece in pieces),
        tool_calls=tuple(call for piece in pieces for call in piece.tool_calls),
        logprobs=tuple(token for piece in pieces for token in piece.logprobs),
    )


def _new_call_id() -> str:
    """An id for a tool call, as Ollama makes them: `call_` and eight of a-z and 0-9."""
    letters = string.ascii_lowercase + string.digits
    return "call_" + "".join(secrets.choice(letters) for _ in range(8))
