"""The Anthropic surface: routes, schemas, conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..service import Service
    from ..surface import Surface


def surface(service: Service) -> Surface:
    """Everything that the application needs of this surface."""
    from ..surface import Surface
    from .routes import blueprint, error_response

    return Surface(blueprint(service), "/v1/messages", error_response)
