"""A model in this process: loading, what its metadata say, text to tokens and back.

The weights and the vocabulary only; cells and decoding are `context`. After `load` everything here
may be called from any thread, but see `tokenize` about the stack.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .errors import LoadError
from .native import Native, native
from .request import LoadOptions

# llama.cpp's numbers of the ways to share a model between GPUs.
_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}
# Longest piece that a vocabulary may hold (the GGUF check refuses longer tokens).
_MAX_PIECE = 4096
# Files of so many bytes in all are read into memory, in huge pages, where nobody says: one stream
# is 3 % faster than with a mapped file (SmolLM2), and the copy costs half a second at most.
_READ_BYTES = 1 << 30


class Model:
    """Weights and vocabulary. Call `close` at the end; nothing may use it afterwards."""

    def __init__(self, native_library: Native, handle: Any) -> None:
        self.native = native_library
        self.handle = handle
        api = native_library.api
        self.vocab = api.llama_model_get_vocab(handle)
        self.vocabulary_size = int(api.llama_vocab_n_tokens(self.vocab))
        self.pieces = self._piece_table()
        self.end_tokens = self._tokens_where(native_library.quick.llama_vocab_is_eog)
        self.control_tokens = self._tokens_where(native_library.quick.llama_vocab_is_control)
        self.bos = int(api.llama_vocab_bos(self.vocab))
        self.eos = int(api.llama_vocab_eos(self.vocab))
        self.adds_bos = bool(api.llama_vocab_get_add_bos(self.vocab))
        self.train_context_length = int(api.llama_model_n_ctx_train(handle))
        self.embedding_length = int(api.llama_model_n_embd(handle))
        architecture = self.metadata("general.architecture")
        # Encoders see a whole text at once; they have no cells to continue from.
        self.is_causal = self.metadata(f"{architecture}.attention.causal") != "false"
        self.can_generate = self.is_causal and bool(api.llama_model_has_decoder(handle))
        # Recurrent and hybrid ones keep a whole state for each sequence, whatever its length.
        self.has_states = bool(
            api.llama_model_is_recurrent(handle) or api.llama_model_is_hybrid(handle)
        )
        self.size = int(api.llama_model_size(handle))
        self.parameter_count = int(api.llama_model_n_params(handle))

    @classmethod
    def load(
        cls,
        paths: Sequence[Path],
        options: LoadOptions,
        *,
        on_progress: Callable[[float], bool] | None = None,
    ) -> Model:
        """Load a GGUF file, or the files of a split one in order.

        `on_progress` gets the share that is loaded and ends the load by returning False.

        Raises:
            EngineMissing: the library is not usable.
            LoadError: it refused the model, without a reason that it would tell.
        """
        library = native()
        api = library.api
        params = api.llama_model_default_params()
        params.n_gpu_layers = options.num_gpu if options.num_gpu >= 0 else 1 << 20
        params.main_gpu = options.main_gpu
        params.split_mode = _SPLIT_MODES[options.split_mode]
        shares = (ctypes.c_float * max(1, int(api.llama_max_devices())))(*options.tensor_split)
        if options.tensor_split:
            params.tensor_split = shares
        use_mmap = options.use_mmap
        if use_mmap is None and _is_read(api, paths):
            use_mmap = False
        if use_mmap is not None:
            params.load_mode = api.LLAMA_LOAD_MODE_MMAP if use_mmap else api.LLAMA_LOAD_MODE_NONE
        if on_progress is not None:
            report = on_progress
            params.progress_callback = api.llama_progress_callback(
                lambda share, _: bool(report(share))
            )
        if len(paths) == 1:
            handle = api.llama_model_load_from_file(str(paths[0]).encode(), params)
        else:
            names = (ctypes.c_char_p * len(paths))(*(str(path).encode() for path in paths))
            handle = api.llama_model_load_from_splits(names, len(paths), params)
        if not handle:
            raise LoadError("the engine refused the model")
        return cls(library, handle)

    def load_adapter(self, path: Path) -> Any:
        """A LoRA adapter for this model; it is freed with the model.

        Raises:
            LoadError: it is none, or does not fit.
        """
        adapter = self.native.api.llama_adapter_lora_init(self.handle, str(path).encode())
        if not adapter:
            raise LoadError("the engine refused an adapter of the model")
        return adapter

    def close(self) -> None:
        """Free the weights. Idempotent."""
        if self.handle:
            self.native.api.llama_model_free(self.handle)
            self.handle = None

    def metadata(self, key: str) -> str | None:
        """A metadata value as text, None where the file has no such key."""
        buffer = ctypes.create_string_buffer(1 << 12)
        read = self.native.api.llama_model_meta_val_str
        size = read(self.handle, key.encode(), buffer, len(buffer))
        if size >= len(buffer):
            buffer = ctypes.create_string_buffer(size + 1)
            size = read(self.handle, key.encode(), buffer, len(buffer))
        return None if size < 0 else buffer.value.decode("utf-8", "replace")

    def tokenize(self, text: str, *, special: bool, whole: bool = False) -> list[int]:
        """Token ids of a text; `special` recognises control tokens.

        Nothing is added, unless it is a `whole` text and the model wants a first or last token.

        Some vocabularies split text with a recursive regular expression: 60,000 equal letters
        need more than a usual stack. Call it from a thread with `BIG_STACK`.
        """
        data = text.encode("utf-8", "replace")
        room = len(data) + 16
        buffer = (ctypes.c_int32 * room)()
        call = self.native.api.llama_tokenize
        count = call(self.vocab, data, len(data), buffer, room, whole, special)
        if count < 0:
            buffer = (ctypes.c_int32 * -count)()
            count = call(self.vocab, data, len(data), buffer, -count, whole, special)
        return list(buffer[:count])

    def text(self, tokens: Iterable[int]) -> str:
        """Text of token ids, control tokens included."""
        pieces = self.pieces
        return b"".join(
            pieces[token] for token in tokens if 0 <= token < self.vocabulary_size
        ).decode("utf-8", "replace")

    def _piece_table(self) -> tuple[bytes, ...]:
        """The bytes of every token, control tokens as they are written."""
        buffer = ctypes.create_string_buffer(_MAX_PIECE)
        call = self.native.quick.llama_token_to_piece
        vocab = self.vocab
        return tuple(
            ctypes.string_at(buffer, max(call(vocab, token, buffer, _MAX_PIECE, 0, True), 0))
            for token in range(self.vocabulary_size)
        )

    def _tokens_where(self, test: Callable[[Any, int], bool]) -> frozenset[int]:
        return frozenset(token for token in range(self.vocabulary_size) if test(self.vocab, token))


def _is_read(api: Any, paths: Sequence[Path]) -> bool:
    """Whether weights are better read than mapped; on a GPU machine the library chooses."""
    if api.llama_supports_gpu_offload():
        return False
    try:
        return sum(path.stat().st_size for path in paths) <= _READ_BYTES
    except OSError:
        return False
