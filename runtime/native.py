"""The native library: the only importer of llama_cpp, and the two ways in which it is called.

A call through `ctypes.CDLL` gives the interpreter lock up and takes it again, which costs up to a
switch interval where another thread is busy; one through `ctypes.PyDLL` keeps it. So `quick` holds
the calls that take about a microsecond and `api` everything long: decode, load, sampling, state.

Not here: what the calls are used for (`model`, `context`, `sampling`).
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import sys
import types
from functools import cache
from typing import Any

from .errors import EngineMissing

logger = logging.getLogger(__name__)

# The declarations belong to one release; the ABI changes with almost every one.
VERSION = "0.3.36"
# sizeof(llama_batch), sizeof(llama_context_params), sizeof(llama_model_params) of that release on a
# 64-bit machine. Other sizes mean other declarations, and calls through them would corrupt memory.
STRUCT_SIZES = (56, 160, 80)
# sizeof(mtmd_context_params), sizeof(mtmd_input_part).
VISION_SIZES = (96, 16)

_QUICK = (
    "llama_get_logits_ith",
    "llama_get_memory",
    "llama_memory_seq_cp",
    "llama_memory_seq_rm",
    "llama_memory_seq_add",
    "llama_memory_seq_pos_max",
    "llama_memory_seq_pos_min",
    "llama_memory_can_shift",
    "llama_sampler_accept",
    "llama_sampler_chain_init",
    "llama_sampler_chain_add",
    "llama_sampler_free",
    "llama_token_to_piece",
    "llama_vocab_is_eog",
    "llama_vocab_is_control",
)


class Native:
    """The library's functions. `api` gives the interpreter lock up, `quick` does not."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.quick = types.SimpleNamespace(**{name: _keep_lock(api, name) for name in _QUICK})
        self._callbacks: list[Any] = []

    @property
    def log_callback(self) -> Any:
        """Where messages go, once it is started."""
        return self._callbacks[-1]

    def start(self) -> None:
        """Route the library's messages to logging, then initialise it. Idempotent."""
        if self._callbacks:
            return
        levels = {2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}

        def log(level: int, text: bytes, _: object) -> None:
            if level in levels:
                logger.log(levels[level], "%s", text.decode("utf-8", "replace").rstrip())

        # C keeps the pointer, so Python must keep the object.
        self._callbacks.append(self.api.llama_log_callback(log))
        self.api.llama_log_set(self._callbacks[-1], ctypes.c_void_p(0))
        self.api.llama_backend_init()


@cache
def vision() -> Any:
    """The library's functions for images (`mtmd.h`), and its decoder of image files.

    Raises:
        EngineMissing: it was built without them, or is another release.
    """
    library = native()
    try:
        api = importlib.import_module("llama_cpp.mtmd_cpp")
        sizes = ctypes.sizeof(api.mtmd_context_params), ctypes.sizeof(api.mtmd_input_part)
        if sizes != VISION_SIZES:
            raise ImportError(f"its structures have sizes {sizes}")
        _declare_image_decoder(api._libmtmd)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise EngineMissing(
            f"llama-cpp-python cannot look at images: {error}",
            hint=f"build llama-cpp-python=={VERSION} with its mtmd library",
        ) from error
    library.start()
    api.mtmd_helper_log_set(library.log_callback, ctypes.c_void_p(0))
    return api


def _declare_image_decoder(library: Any) -> None:
    """Types of stb_image's functions, which mtmd exports and llama_cpp does not declare.

    mtmd's own helper goes on to start ffmpeg with what is no image; these do not.
    """
    number, numbers = ctypes.c_int, ctypes.POINTER(ctypes.c_int)
    sizes = [ctypes.c_char_p, number, numbers, numbers, numbers]
    library.stbi_info_from_memory.argtypes = sizes
    library.stbi_load_from_memory.argtypes = [*sizes, number]
    library.stbi_load_from_memory.restype = ctypes.c_void_p
    library.stbi_image_free.argtypes = [ctypes.c_void_p]
    library.stbi_image_free.restype = None
    library.stbi_failure_reason.restype = ctypes.c_char_p


def _keep_lock(api: Any, name: str) -> Any:
    """A function of the library with its declared types, called without releasing the lock."""
    declared = getattr(api, name)
    function = ctypes.PyDLL(api._lib._name, handle=api._lib._handle)[name]
    function.argtypes = declared.argtypes
    function.restype = declared.restype
    return function


@cache
def native() -> Native:
    """The library of this process, loaded on first use.

    Raises:
        EngineMissing: it is not installed, cannot be loaded, or is another release.
    """
    hint = "install it with `pip install 'pannier[runtime]'`, then run `pannier doctor`"
    try:
        api = _import_declarations()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise EngineMissing(f"llama-cpp-python cannot be used: {error}", hint=hint) from error
    sizes = tuple(
        ctypes.sizeof(struct)
        for struct in (api.llama_batch, api.llama_context_params, api.llama_model_params)
    )
    if sizes != STRUCT_SIZES:
        raise EngineMissing(
            f"this llama-cpp-python is not {VERSION}: its structures have sizes {sizes}",
            hint=f"install llama-cpp-python=={VERSION}",
        )
    return Native(api)


def is_installed() -> bool:
    """Whether llama-cpp-python is there; says nothing about whether it works."""
    return importlib.util.find_spec("llama_cpp") is not None


def _import_declarations() -> Any:
    """Import llama_cpp.llama_cpp without the package's own __init__.

    The package imports numpy, jinja2 and a disk cache for a class that is not used here: 400 ms
    against 55 ms for the declarations alone (2-core Xeon), on each start of a runner.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("it is not installed")
    if "llama_cpp" not in sys.modules:
        bare = types.ModuleType("llama_cpp")
        bare.__path__ = list(spec.submodule_search_locations)
        bare.__spec__ = spec
        sys.modules["llama_cpp"] = bare
    return importlib.import_module("llama_cpp.llama_cpp")
