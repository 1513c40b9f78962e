"""Models for prompt tests: a spec and a header without files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.modelspec import ModelSpec


@dataclass
class Header:
    """A GGUF header as far as prompts need it."""

    metadata: dict[str, Any] = field(default_factory=dict)
    architecture: str = "llama"


def spec(**changes: Any) -> ModelSpec:
    """A model with nothing but what is asked for."""
    values: dict[str, Any] = {
        "digest": Digest.parse("sha256:" + "0" * 64),
        "dialect": "modelpack",
        "parts": (),
    }
    return ModelSpec(**(values | changes))
