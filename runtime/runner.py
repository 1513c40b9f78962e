"""The child process that holds one model: `python -m pannier.runtime.runner SOCKET_FD DEATH_FD`.

Three threads. The main one is the engine. A second one, with a stack that no tokenizer can exhaust,
reads messages, tokenises and hands requests over. A third one waits for the parent's death and then
ends the process, whatever the engine is doing.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import frames
from .answer import Piece, Vocabulary
from .checkpoints import Checkpoints
from .confine import confine, give_up_privileges, limit
from .constraingate import Constrainer
from .context import ContextParams, LlamaBackend
from .cores import usable_cores
from .diskstates import DiskStates
from .draft import DraftModel
from .draftcontext import load_draft
from .embeddingdesk import EmbeddingDesk
from .engine import Engine
from .errors import EngineError, LoadError
from .hoststates import HostStates
from .memory import DEFAULT_SEQUENCES, RECURRENT_COPIES
from .model import Model
from .native import native
from .request import GenerationRequest, LoadOptions
from .speculate import MAX_STREAMS, most_drafted

# A pre-tokenizer's recursive regular expression took 60,000 equal letters to overflow 8 MiB; with
# 512 MiB 120,000 pass. It is address space, used only where it is needed.
BIG_STACK = 512 << 20
# Finished sequences whose cells stay until they are needed.
KEPT_SEQUENCES = 24
# Requests that wait beyond this are refused, as Ollama's OLLAMA_MAX_QUEUE does.
MAX_WAITING = 512
# Bytes for states of sequences that had to leave the cells.
STATES_BUDGET = 1 << 30
# Bytes of them for checkpoints of models whose states cannot be cut: 20 MB each for 3B parameters.
CHECKPOINTS_BUDGET = 1 << 29


class Runner:
    """One model, its engine, and the channel to the supervisor."""

    def __init__(self, channel: frames.Channel, load: frames.Message) -> None:
        options = frames.decode_options(load["options"])
        paths = [Path(path) for path in load["weights"]]
        self._channel = channel
        self._sending = threading.Lock()
        self._shares = -1
        self._steps = 0
        self._told: list[int] = []
        self._backend: LlamaBackend | None = None
        self._draft_backend: LlamaBackend | None = None
        self.model = Model.load(paths, options, on_progress=self._report_progress)
        self.context_length: int = load["num_ctx"]
        adapters = [self.model.load_adapter(Path(path)) for path in load["adapters"]]
        draft = load["draft"]
        self._max_draft = most_drafted(options.draft_num_predict, has_model=draft is not None)
        params = self._context_params(options, load["num_contexts"])
        folder = load["states"]
        self._states = (
            DiskStates(STATES_BUDGET, Path(folder)) if folder else HostStates(STATES_BUDGET)
        )
        self.num_cells = 0
        self.engine: Engine | None = None
        if self.model.can_generate:
            drafter = None if draft is None else self._load_draft(draft, params.threads)
            self.engine = self._make_engine(params, adapters, options, drafter)
        self._embedding = EmbeddingDesk(
            self.model, context_length=self.context_length, threads=params.threads, send=self.send
        )
        self._constrainer = Constrainer(
            self.model.pieces,
            end_tokens=self.model.end_tokens,
            control_tokens=self.model.control_tokens,
            eos=self.model.eos,
            tokenize=lambda text, special: self.model.tokenize(text, special=special),
        )
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()

    def _load_draft(self, draft: frames.Message, threads: int) -> DraftModel:
        self._draft_backend, drafter = load_draft(
            [Path(path) for path in draft["weights"]],
            frames.decode_options(draft["options"]),
            vocabulary_size=self.model.vocabulary_size,
            context_length=draft["num_ctx"],
            threads=threads,
        )
        return drafter

    def _make_engine(
        self,
        params: ContextParams,
        adapters: list[Any],
        options: LoadOptions,
        drafter: DraftModel | None,
    ) -> Engine:
        backend = self._backend = LlamaBackend(self.model, params, adapters=adapters)
        self.num_cells = backend.num_cells
        budget = CHECKPOINTS_BUDGET if backend.has_points else 0
        return Engine(
            backend,
            Vocabulary(self.model.pieces, self.model.end_tokens, self.model.control_tokens),
            context_length=self.context_length,
            max_running=options.num_parallel or DEFAULT_SEQUENCES,
            states=self._states,
            checkpoints=Checkpoints(budget),
            max_draft=self._max_draft,
            drafter=drafter,
        )

    def _context_params(self, options: LoadOptions, contexts: int) -> ContextParams:
        threads = options.num_thread or usable_cores()
        return ContextParams(
            num_cells=self.context_length * contexts,
            num_sequences=self._num_sequences(options),
            batch_size=max(32, min(options.num_batch, self.context_length)),
            num_outputs=self._num_sequences(options) + MAX_STREAMS * self._max_draft,
            cache_type=options.cache_type,
            sampling_threads=threads,
            top_p_prefilter=options.top_p_prefilter,
            threads=threads,
            batch_threads=threads,
        )

    def _num_sequences(self, options: LoadOptions) -> int:
        """Running ones, and those of finished requests whose cells are kept to be shared."""
        running = options.num_parallel or DEFAULT_SEQUENCES
        api, handle = self.model.native.api, self.model.handle
        if api.llama_model_is_recurrent(handle) or api.llama_model_is_hybrid(handle):
            # Each has a whole state of its own.
            return running * RECURRENT_COPIES
        return running + KEPT_SEQUENCES

    def info(self) -> frames.Message:
        """What `ModelInfo` holds but for sizes, as JSON values."""
        model = self.model
        api = model.native.api
        template = api.llama_model_chat_template(model.handle, None)
        return {
            "architecture": model.metadata("general.architecture") or "",
            "context_length": self.context_length,
            "train_context_length": model.train_context_length,
            "embedding_length": model.embedding_length,
            "vocabulary_size": model.vocabulary_size,
            "parameter_count": model.parameter_count,
            "chat_template": template.decode("utf-8", "replace") if template else None,
            "bos_token": model.text([model.bos]),
            "eos_token": model.text([model.eos]),
        }

    def send(self, message: frames.Message) -> None:
        """Send to the supervisor, from any thread."""
        with self._sending:
            self._channel.send(message)

    def start_reading(self) -> None:
        """Take requests from now on.

        Raises:
            LoadError: there is no address space for the reader's stack.
        """
        threading.stack_size(BIG_STACK)
        try:
            threading.Thread(target=self._read, name="reader", daemon=True).start()
        except RuntimeError as error:
            raise LoadError("there is no room for the tokenizer's stack") from error
        finally:
            threading.stack_size(0)

    def run(self) -> None:
        """The engine's loop; ends with the process."""
        engine, inbox, embedding = self.engine, self._inbox, self._embedding
        while True:
            if embedding.is_idle and (engine is None or engine.is_idle):
                with self._wake:
                    while not inbox:
                        self._wake.wait()
            self._steps += 1
            while inbox:
                inbox.popleft()()
            if engine is not None and not engine.is_idle:
                self._tell(engine, engine.step())
            if not embedding.is_idle:
                embedding.step()

    def _read(self) -> None:
        while True:
            message = self._channel.receive()
            if message is None:
                os._exit(0)
            self._handle(message)

    def _handle(self, message: frames.Message) -> None:
        key = message["key"]
        match message["op"]:
            case "generate":
                self._accept(key, frames.decode_request(message["request"]))
            case "cancel":
                self._post(lambda: self._cancel(key))
            case "pulse":
                self.send({"op": "pulse", "key": key, "steps": self._steps})
            case "threads":
                count = message["count"]
                self._post(lambda: self._use_threads(count))
            case "embed" | "rank":
                job = self._embedding.prepare(message)
                self._post(lambda: self._embedding.add(job))
            case "tokenize":
                tokens = self.model.tokenize(message["text"], special=message["special"])
                self.send({"op": "result", "key": key, "value": tokens})
            case "detokenize":
                text = self.model.text(message["tokens"])
                self.send({"op": "result", "key": key, "value": text})

    def _accept(self, key: int, request: GenerationRequest) -> None:
        engine = self.engine
        if engine is None:
            text = "this model does not generate text"
            self._refuse(key, "UnsupportedRequest", {"message": text})
            return
        waiting = len(engine.scheduler.waiting) + len(self._inbox)
        if waiting >= MAX_WAITING:
            facts = {"waiting": waiting, "retry_after_s": engine.expected_wait_s(waiting)}
            self._refuse(key, "QueueFull", facts)
            return
        tokens = self._tokenize_prompt(request)
        limit = self.context_length
        truncated = 0
        if len(tokens) >= limit:
            if not request.truncate or limit < 2:
                facts = {"wanted": len(tokens), "limit": limit}
                self._refuse(key, "ContextOverflow", facts)
                return
            tokens, truncated = truncate(tokens, request, limit)
        gate = None
        if request.constraint is not None:
            try:
                room = answer_room(request, len(tokens), limit)
                gate = self._constrainer.gate(request.constraint, room=room)
            except ValueError as error:
                text = f"the answer's grammar cannot be used: {error}"
                self._refuse(key, "UnsupportedRequest", {"message": text})
                return
        self.send({"op": "accepted", "key": key})
        self._post(lambda: engine.add(key, request, tokens, truncated=truncated, gate=gate))

    def _tokenize_prompt(self, request: GenerationRequest) -> list[int]:
        """The tokens of a prompt behind those of its context; never none."""
        tokens = self.model.tokenize_prompt(request.prompt)
        if request.context:
            known = range(self.model.vocabulary_size)
            tokens = [token for token in request.context if token in known] + tokens
        start = self.model.bos if self.model.bos >= 0 else self.model.eos
        return tokens or [max(0, start)]

    def _refuse(self, key: int, kind: str, facts: dict[str, Any]) -> None:
        self.send({"op": "refused", "key": key, "kind": kind, "facts": facts})

    def _cancel(self, key: int) -> None:
        engine = self.engine
        piece = engine.cancel(key) if engine is not None else None
        if engine is not None and piece is not None:
            self._tell(engine, [piece])

    def _tell(self, engine: Engine, pieces: list[Piece]) -> None:
        """Send what a step brought, if it brought anything."""
        stats = frames.encode_stats(engine.stats())
        if pieces or stats != self._told:
            self._told = stats
            encoded = [_encode_piece(piece) for piece in pieces]
            self.send({"op": "step", "pieces": encoded, "stats": stats})

    def _use_threads(self, count: int) -> None:
        self._embedding.use_threads(count)
        for backend in (self._backend, self._draft_backend):
            if backend is not None:
                backend.use_threads(count)

    def _post(self, action: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(action)
            self._wake.notify()

    def _report_progress(self, share: float) -> bool:
        percent = int(share * 100)
        if percent > self._shares:
            self._shares = percent
            self.send({"op": "progress", "percent": percent})
        return True


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


def _encode_piece(piece: Piece) -> list[Any]:
    if piece.usage is None and piece.error is None and not piece.logprobs:
        return [piece.key, piece.text, piece.tokens]
    usage = None if piece.usage is None else frames.encode_usage(piece.usage)
    logprobs = [frames.encode_logprob(value) for value in piece.logprobs]
    end = [piece.finish, usage, piece.stop_text, piece.context, piece.error, logprobs]
    return [piece.key, piece.text, piece.tokens, *end]


def _die_with_parent(descriptor: int) -> None:
    """Wait for the end of the pipe whose other end only the supervisor has."""
    os.read(descriptor, 1)
    os._exit(0)


def main(arguments: list[str]) -> int:
    """Serve one model until the supervisor goes away."""
    socket_fd, death_fd = (int(argument) for argument in arguments)
    give_up_privileges()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    channel = frames.Channel(socket.socket(fileno=socket_fd))
    load = channel.receive()
    if load is None:
        return 0
    limit(address_space=load["address_space"], cpu_seconds=load["cpu_seconds"])
    files = [Path(path) for path in load["weights"] + load["adapters"]]
    if load["draft"] is not None:
        files += [Path(path) for path in load["draft"]["weights"]]
    confine(files, writable=Path(load["states"]) if load["states"] else None)
    threading.Thread(target=_die_with_parent, args=(death_fd,), daemon=True).start()
    started = time.monotonic_ns()
    try:
        native().start()
        runner = Runner(channel, load)
        runner.start_reading()
    except EngineError as error:
        failure = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        channel.send({"op": "failed", **failure})
        return 1
    load_ns = time.monotonic_ns() - started
    runner.send({"op": "loaded", "info": runner.info(), "load_ns": load_ns})
    runner.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
