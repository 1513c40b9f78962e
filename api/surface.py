"""What a surface gives to the application: its routes, and the shape of its errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response

from .errors import Failure


@dataclass(frozen=True, slots=True)
class Surface:
    """One API that the server speaks.

    Attributes:
        prefix: the paths whose errors have this surface's shape.
        error: an error as this surface says it.
    """

    blueprint: Blueprint
    prefix: str
    error: Callable[[Failure], Response]
