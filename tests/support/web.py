"""Flask's test client as tests use it: replies whose JSON may be anything."""

from typing import Any, Protocol


class Reply(Protocol):
    """An answer."""

    status_code: int
    data: bytes
    text: str
    headers: Any
    content_type: Any

    @property
    def json(self) -> Any: ...


class WebClient(Protocol):
    """Flask's `FlaskClient`."""

    def open(self, path: str, /, **options: Any) -> Reply: ...
    def get(self, path: str, /, **options: Any) -> Reply: ...
    def head(self, path: str, /, **options: Any) -> Reply: ...
    def post(self, path: str, /, **options: Any) -> Reply: ...
    def delete(self, path: str, /, **options: Any) -> Reply: ...
    def options(self, path: str, /, **options: Any) -> Reply: ...
