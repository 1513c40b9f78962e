"""What a model can do, as far as its header, its template and its parser tell. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Parsers (Ollama's names) that stand for models whose template does not tell it.
_CALLING_PARSERS = frozenset(
    {"qwen3", "qwen3-thinking", "qwen3.5", "qwen3-coder", "qwen3-vl-instruct"}
    | {"qwen3-vl-thinking", "ministral", "harmony", "cogito", "deepseek3", "olmo3"}
    | {"nemotron-3-nano", "nemotron-3.5-nano", "glm-4.7", "lfm2", "lfm2-thinking"}
)
_THINKING_PARSERS = frozenset({"harmony"})
_ORDER = ("completion", "embedding", "vision", "tools", "insert", "thinking")


def capabilities(
    metadata: Mapping[str, Any],
    architecture: str,
    *,
    has_projector: bool,
    template: frozenset[str],
    parser: str,
    thinks: bool,
) -> tuple[str, ...]:
    """The words of `show`, in its order.

    Args:
        metadata: of the GGUF.
        architecture: of the GGUF.
        has_projector: whether the artifact brings a vision projector.
        template: what the template makes possible.
        parser: what the model's PARSER says.
        thinks: whether its output marks reasoning.
    """
    embeds = f"{architecture}.pooling_type" in metadata
    found = set(template)
    found.add("embedding" if embeds else "completion")
    if has_projector or f"{architecture}.vision.block_count" in metadata:
        found.add("vision")
    if parser in _CALLING_PARSERS:
        found.add("tools")
    if thinks or parser in _THINKING_PARSERS:
        found.add("thinking")
    return tuple(name for name in _ORDER if name in found)
