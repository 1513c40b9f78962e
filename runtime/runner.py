"""The child process that holds one model: `python -m pannier.runtime.runner SOCKET_FD DEATH_FD`.

Three threads. The main one is the engine. A second one, with a stack that no tokenizer can exhaust,
reads messages, tokenises and hands requests over. A third one waits for the parent's death and then
ends the process, whatever the engine is doing; so does the end of any other (`lifeline`). A model
with a projector has two more, which look at images.
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
from .answergate import gate_of
from .checkpoints import Checkpoints
from .confine import confine, give_up_privileges, limit
from .constrainer import Constrainer
from .context import ContextParams, LlamaBackend
from .cores import usable_cores
from .diskstates import DiskStates
from .draft import DraftModel
from .draftcontext import load_draft
from .embeddingdesk import EmbeddingDesk
from .engine import Engine
from .errors import ContextOverflow, EngineError, LoadError, QueueFull, UnsupportedRequest
from .hoststates import HostStates
from .lifeline import end_with_server, end_with_threads
from .memory import DEFAULT_SEQUENCES, RECURRENT_COPIES
from .model import Model
from .native import native
from .news import News
from .prompttokens import prompt_pieces, truncate
from .refusals import encode_refusal
from .request import FinishReason, GenerationRequest, LoadOptions, Usage
from .speculate import MAX_STREAMS, most_drafted
from .visiondesk import VisionDesk, open_desk

# A pre-tokenizer's recursive regular expression took 60,000 equal letters to overflow 8 MiB; with
# 512 MiB 120,000 pass. It is address space, used only where it is needed.
BIG_STACK = 512 << 20
# Finished sequences whose cells stay until they are needed.
KEPT_SEQUENCES = 24
# Those that one context of the library can have (LLAMA_MAX_SEQ).
MAX_SEQUENCES = 256
# Requests that wait beyond this are refused, as Ollama's OLLAMA_MAX_QUEUE does.
MAX_WAITING = 512


class Runner:
    """One model, its engine, and the channel to the supervisor."""

    def __init__(self, channel: frames.Channel, load: frames.Message) -> None:
        options = frames.decode_options(load["options"])
        paths = [Path(path) for path in load["weights"]]
        self._channel = channel
        self._sending = threading.Lock()
        self._shares = -1
        self._steps = 0
        self._backend: LlamaBackend | None = None
        self._draft_backend: LlamaBackend | None = None
        self.model = Model.load(paths, options, on_progress=self._report_progress)
        self.context_length: int = load["num_ctx"]
        adapters = [self.model.load_adapter(Path(path)) for path in load["adapters"]]
        draft = load["draft"]
        self._max_draft = most_drafted(options.draft_num_predict, has_model=draft is not None)
        params = self._context_params(options, load["num_contexts"])
        folder, budget = load["states"], load["states_budget"]
        self._states = DiskStates(budget, Path(folder)) if folder else HostStates(budget)
        self._checkpoints = Checkpoints(load["checkpoints_budget"])
        self.num_cells = 0
        self.engine: Engine | None = None
        self._news: News | None = None
        if self.model.can_generate:
            drafter = None if draft is None else self._load_draft(draft, params.threads)
            self.engine = self._make_engine(params, adapters, options, drafter)
            self._news = News(self.engine)
        self._vision: VisionDesk | None = None
        if load["projector"] and self.engine is not None:
            self._vision = open_desk(
                self.model,
                Path(load["projector"]),
                params,
                use_gpu=options.num_gpu != 0,
                context_length=self.context_length,
                accept=self._say_yes,
                refuse=self._refuse,
                fail=lambda key, error: self._end(Piece(key, error=error)),
            )
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
        return Engine(
            backend,
            Vocabulary(self.model.pieces, self.model.end_tokens, self.model.control_tokens),
            context_length=self.context_length,
            max_running=options.num_parallel or DEFAULT_SEQUENCES,
            states=self._states,
            checkpoints=self._checkpoints,
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
        if self.model.has_states:
            return min(running * RECURRENT_COPIES, MAX_SEQUENCES)
        return min(running + KEPT_SEQUENCES, MAX_SEQUENCES)

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
            if self._vision is not None:
                self._vision.start()
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
                self._tell(engine.step())
            if not embedding.is_idle:
                embedding.step(None if engine is None else engine.spare_ns)

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
                self._withdraw(key)
            case "pulse":
                looks = 0 if self._vision is None else self._vision.steps
                self.send({"op": "pulse", "key": key, "steps": self._steps + looks})
            case "threads":
                count = message["count"]
                self._post(lambda: self._use_threads(count))
            case "embed" | "rank":
                job = self._embedding.prepare(message)
                self._post(lambda: self._embedding.add(job))
            case "image_tokens":
                self._count_images(key, message["sizes"])
            case "tokenize":
                tokens = self.model.tokenize(message["text"], special=message["special"])
                self.send({"op": "result", "key": key, "value": tokens})
            case "detokenize":
                text = self.model.text(message["tokens"])
                self.send({"op": "result", "key": key, "value": text})

    def _accept(self, key: int, request: GenerationRequest) -> None:
        try:
            self._take(key, request)
        except EngineError as error:
            self._refuse(key, error)

    def _take(self, key: int, request: GenerationRequest) -> None:
        """Queue a request.

        Raises:
            EngineError: it cannot be answered, or not now.
        """
        engine, desk, limit = self.engine, self._vision, self.context_length
        if engine is None:
            raise UnsupportedRequest("this model does not generate text")
        waiting = len(engine.scheduler.waiting) + len(self._inbox)
        waiting += 0 if desk is None else desk.waiting
        if waiting >= MAX_WAITING or (request.images and desk is not None and desk.is_full):
            raise QueueFull(waiting, retry_after_s=engine.expected_wait_s(waiting))
        if request.images:
            self._show(key, request, engine)
            return
        tokens = [token for piece in prompt_pieces(self.model, request) for token in piece]
        truncated = 0
        if len(tokens) >= limit:
            if not request.truncate or limit < 2:
                raise ContextOverflow(len(tokens), limit)
            tokens, truncated = truncate(tokens, request, limit)
        gate = gate_of(self._constrainer, request, len(tokens), limit)
        self._say_yes(key)
        self._post(lambda: engine.add(key, request, tokens, truncated=truncated, gate=gate))

    def _show(self, key: int, request: GenerationRequest, engine: Engine) -> None:
        if self._vision is None:
            raise UnsupportedRequest("this model does not support images")
        limit = self.context_length
        self._vision.add(
            key,
            request,
            check=lambda num_prompt: gate_of(self._constrainer, request, num_prompt, limit),
            admit=lambda later, tokens, spans, gate: self._post(
                lambda: engine.add(key, later, tokens, gate=gate, spans=spans)
            ),
        )

    def _count_images(self, key: int, sizes: list[list[int]]) -> None:
        try:
            if self._vision is None:
                raise UnsupportedRequest("this model does not support images")
            self.send({"op": "result", "key": key, "value": self._vision.count(sizes)})
        except EngineError as error:
            self._refuse(key, error)

    def _say_yes(self, key: int) -> None:
        self.send({"op": "accepted", "key": key})

    def _refuse(self, key: int, error: EngineError) -> None:
        self.send(encode_refusal(key, error))

    def _withdraw(self, key: int) -> None:
        """End a request, wherever it stands."""
        if self._vision is not None and self._vision.cancel(key):
            self._end(Piece(key, finish=FinishReason.CANCELLED, usage=Usage()))
        else:
            self._post(lambda: self._cancel(key))

    def _end(self, piece: Piece) -> None:
        """Say how a request ended that the engine has not seen."""
        self._post(lambda: self._tell([piece]))

    def _cancel(self, key: int) -> None:
        if self._embedding.cancel(key):
            return
        engine = self.engine
        piece = engine.cancel(key) if engine is not None else None
        if engine is not None and piece is not None:
            self._tell([piece])

    def _tell(self, pieces: list[Piece]) -> None:
        """Send what a step brought, if it brought anything."""
        assert self._news is not None
        message = self._news.of(pieces)
        if message is not None:
            self.send(message)

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


def main(arguments: list[str]) -> int:
    """Serve one model until the supervisor goes away."""
    socket_fd, death_fd = (int(argument) for argument in arguments)
    give_up_privileges()
    # Of what it dies is the last thing said here; a warning of long before would be taken for that.
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    channel = frames.Channel(socket.socket(fileno=socket_fd))
    load = channel.receive()
    if load is None:
        return 0
    limit(address_space=load["address_space"], cpu_seconds=load["cpu_seconds"])
    files = [Path(path) for path in load["weights"] + load["adapters"]]
    if load["draft"] is not None:
        files += [Path(path) for path in load["draft"]["weights"]]
    if load["projector"]:
        files.append(Path(load["projector"]))
    confine(files, writable=Path(load["states"]) if load["states"] else None)
    end_with_server(death_fd)
    end_with_threads()
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
