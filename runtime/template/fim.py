"""Prompts that fill a gap, by the control tokens that code models have for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .shield import Shield

# Prefix, suffix and middle marks of the model families, where the GGUF does not name them.
_FAMILIES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
)
# Where a GGUF names them, the older names last.
_KEYS = (("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle"))


@dataclass(frozen=True, slots=True)
class GapMarks:
    """The texts of a model's three marks."""

    prefix: str
    suffix: str
    middle: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> GapMarks | None:
        """Those that GGUF metadata names, else those of a known family; None for other models."""
        tokens = metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, Sequence):
            return None
        for keys in _KEYS:
            ids = [metadata.get(f"tokenizer.ggml.{key}_token_id") for key in keys]
            named = [tokens[i] for i in ids if isinstance(i, int) and 0 <= i < len(tokens)]
            if len(named) == len(keys):
                return cls(*named)
        known = {mark for family in _FAMILIES for mark in family}
        found = {token for token in tokens if token in known}
        for family in _FAMILIES:
            if found.issuperset(family):
                return cls(*family)
        return None

    def fill(self, prompt: str, suffix: str, shield: Shield) -> str:
        """The prompt after which a model writes what belongs between the two texts."""
        before, after = shield.protect(prompt), shield.protect(suffix)
        return f"{self.prefix}{before}{self.suffix}{after}{self.middle}"
