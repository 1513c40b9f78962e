"""The graphics processors that the engine can use, and what memory they have free.

Asking means loading the library and its drivers, so a child process does it (`main`), confined as
a runner is: what it cannot see, a runner could not use. The server only reads what it prints.
ggml-backend.h of llama.cpp 0c1e57098 (llama-cpp-python 0.3.36) has the calls.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from .errors import EngineError
from .isolation import scrubbed_environment, signal_name

_LOG = logging.getLogger(__name__)

# A driver that wakes a sleeping card takes seconds.
TIMEOUT_S = 60.0
# Parts of the library that drive no graphics processor.
_WITHOUT_DEVICES = ("base", "cpu", "blas", "rpc")


class DeviceKind(StrEnum):
    """What a device is; in the order of ggml's numbers."""

    CPU = "cpu"
    GPU = "gpu"
    IGPU = "igpu"
    """A graphics processor that uses the machine's main memory."""
    ACCEL = "accel"
    META = "meta"


@dataclass(frozen=True, slots=True)
class Device:
    """One device. Sizes in bytes; `id` is where it sits (PCI), empty where nobody knows."""

    name: str
    description: str
    kind: DeviceKind
    free: int
    total: int
    id: str = ""


class _Caps(ctypes.Structure):
    _fields_ = [(name, ctypes.c_bool) for name in ("async", "host", "from_host", "events", "mmap")]


class _Props(ctypes.Structure):
    """struct ggml_backend_dev_props."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("free", ctypes.c_size_t),
        ("total", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("id", ctypes.c_char_p),
        ("caps", _Caps),
    ]


def list_devices(library: Any) -> list[Device]:
    """All devices of a loaded library, processors among them. For a process of its own."""
    count, get, describe = (
        library.ggml_backend_dev_count,
        library.ggml_backend_dev_get,
        library.ggml_backend_dev_get_props,
    )
    count.restype, count.argtypes = ctypes.c_size_t, []
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    describe.restype, describe.argtypes = None, [ctypes.c_void_p, ctypes.POINTER(_Props)]
    devices = []
    for index in range(count()):
        props = _Props()
        describe(get(index), ctypes.byref(props))
        kind = list(DeviceKind)[props.kind]
        texts = (_text(props.name), _text(props.description))
        devices.append(Device(*texts, kind, props.free, props.total, _text(props.id)))
    return devices


def usable_gpus(devices: list[Device]) -> tuple[Device, ...]:
    """Those that the library spreads a model over, in its order: cards, else what is built in.

    A card that two drivers see counts once (llama.cpp, `llama_prepare_model_devices`).
    """
    cards: dict[str, Device] = {}
    for device in devices:
        if device.kind is DeviceKind.GPU:
            cards.setdefault(device.id or device.name, device)
    return tuple(cards.values()) or tuple(d for d in devices if d.kind is DeviceKind.IGPU)


def probe_devices(*, timeout_s: float = TIMEOUT_S) -> list[Device]:
    """Ask a child process for all devices.

    Raises:
        EngineError: it died, or found no usable library.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pannier.runtime.devices"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=scrubbed_environment(os.environ),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"the GPU drivers do not answer within {timeout_s:g} s") from error
    if done.returncode != 0:
        name = signal_name(done.returncode)
        words = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise EngineError(f"cannot ask for GPUs: {f'killed by {name}' if name else words[0]}")
    return [
        Device(**{**item, "kind": DeviceKind(item["kind"])}) for item in json.loads(done.stdout)
    ]


class GpuProbe:
    """Asks for GPUs before each load, unless this build of the library has no driver for any."""

    def __init__(
        self,
        ask: Callable[[], list[Device]] = probe_devices,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._ask = ask
        self._has_drivers = has_drivers(environ)

    def __call__(self) -> tuple[Device, ...]:
        """The GPUs that a model could be put on now, with what they have free."""
        if not self._has_drivers:
            return ()
        try:
            return usable_gpus(self._ask())
        except EngineError as error:
            _LOG.warning("%s; models run on the CPU", error)
            return ()


def has_drivers(environ: Mapping[str, str]) -> bool:
    """Whether the installed library has a part that drives graphics processors; loads nothing."""
    return any(
        name not in _WITHOUT_DEVICES
        for folder in _library_folders(environ)
        for path in folder.glob("*ggml-*")
        if (name := path.name.partition("ggml-")[2].partition(".")[0].partition("-")[0])
    )


def _library_folders(environ: Mapping[str, str]) -> list[Path]:
    if chosen := environ.get("LLAMA_CPP_LIB_PATH"):
        return [Path(chosen)]
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        return []
    return [Path(place) / "lib" for place in spec.submodule_search_locations]


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def main() -> int:
    """The child: print all devices as a JSON array."""
    from .confine import confine, give_up_privileges
    from .native import native

    give_up_privileges()
    confine([])
    try:
        library = native()
    except EngineError as error:
        print(error.message, file=sys.stderr)
        return 1
    library.start()
    print(json.dumps([asdict(device) for device in list_devices(library.api._lib)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
