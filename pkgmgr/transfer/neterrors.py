"""What requests, urllib3 and sockets raise, as our errors. The only module that knows theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import NetworkError


@contextmanager
def network_errors(place: str) -> Iterator[None]:
    """Turn what requests and urllib3 raise into NetworkError.

    Raises:
        NetworkError: with the reason in people's words.
    """
    import http.client

    import requests
    import urllib3

    try:
        yield
    except requests.exceptions.SSLError as error:
        failed = NetworkError(
            f"TLS with {place} failed: {_reason(error)}",
            place=place,
            hint="give the registry's CA with --ca-file, or --plain-http if it has no TLS",
        )
        failed.temporary = False
        raise failed from error
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise NetworkError(f"{place} does not answer in time", place=place) from error
    except requests.exceptions.ConnectionError as error:
        raise NetworkError(f"cannot reach {place}: {_reason(error)}", place=place) from error
    except (
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
    ) as error:
        raise NetworkError(f"connection to {place} broke: {_reason(error)}", place=place) from error


def _reason(error: BaseException) -> str:
    """The innermost cause in one line, without addresses of Python objects."""
    import socket

    seen = error
    while (inner := _inner(seen)) is not None:
        seen = inner
    if isinstance(seen, socket.gaierror):
        return "the host name is unknown"
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    return printable(str(seen).rpartition("object at 0x")[2].rpartition(">: ")[2])[:200]


def _inner(error: BaseException) -> BaseException | None:
    for value in (getattr(error, "reason", None), *error.args, error.__cause__):
        if isinstance(value, BaseException):
            return value
    return None


def printable(text: str) -> str:
    """Text of a stranger for a terminal: no control or formatting characters."""
    return "".join(c if c.isprintable() else " " for c in text)
