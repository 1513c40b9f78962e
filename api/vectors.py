"""Vectors on their way out: shortened, and packed as clients ask for them. Pure."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence


def shortened(vector: Sequence[float], dimensions: int | None) -> list[float]:
    """The first `dimensions` values, brought to length 1 again; all of them for None and 0.

    >>> shortened([0.6, 0.8, 0.0], 2)
    [0.6, 0.8]
    """
    if not dimensions or dimensions >= len(vector):
        return list(vector)
    cut = vector[:dimensions]
    length = math.sqrt(math.fsum(value * value for value in cut))
    return [value / length for value in cut] if length else list(cut)


def packed(vector: Sequence[float]) -> str:
    """Little-endian float32 values as base64 (OpenAI's `encoding_format: base64`)."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
