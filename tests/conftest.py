"""What the whole suite shares: options, and what is skipped where a program is missing."""

from __future__ import annotations

import importlib.util
import shutil
import signal
from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, settings

# No example fails for being slow: the machine may be busy.
settings.register_profile("pannier", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pannier")

# What a marked test needs, and whether it is here. CI fails where the first two are not.
_NEEDS: Mapping[str, tuple[str, Callable[[], bool]]] = {
    "registry": ("docker-registry", lambda: shutil.which("docker-registry") is not None),
    "skopeo": ("skopeo", lambda: shutil.which("skopeo") is not None),
    # Go programs that Debian does not have; the tests say how they are installed.
    "oras_cli": ("oras", lambda: shutil.which("oras") is not None),
    "cosign": ("cosign", lambda: shutil.which("cosign") is not None),
    "engine": ("llama_cpp", lambda: importlib.util.find_spec("llama_cpp") is not None),
}


def pytest_configure() -> None:
    # A shell without job control starts background jobs with SIGINT ignored, and programs that
    # the tests start would inherit that: Ctrl-C could not be tested.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files and generated docs"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, (what, is_here) in _NEEDS.items():
        if not is_here():
            skip = pytest.mark.skip(reason=f"{marker}: {what} is not installed")
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(skip)
