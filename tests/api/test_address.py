"""Addresses: what PANNIER_HOST and OLLAMA_HOST may be."""

from __future__ import annotations

import pytest

from pannier.api.address import configured_address, parse_address, server_address
from pannier.pkgmgr.errors import InvalidOption


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("example.com", "http://example.com:11434"),
        ("example.com:80", "http://example.com:80"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com", "https://example.com:443"),
        ("https://example.com:8443/ollama/", "https://example.com:8443/ollama"),
        (":56789", "http://127.0.0.1:56789"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("0.0.0.0", "http://0.0.0.0:11434"),
        (" '127.0.0.1' ", "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
    ],
)
def test_addresses_are_read_as_ollama_reads_them(text: str, url: str) -> None:
    assert str(parse_address(text)) == url


@pytest.mark.parametrize("text", ["ftp://x", "x:99999", "x:port"])
def test_wrong_addresses_are_errors(text: str) -> None:
    with pytest.raises(InvalidOption):
        parse_address(text)


@pytest.mark.parametrize(
    ("address", "client"),
    [("0.0.0.0:1", "http://127.0.0.1:1"), ("[::]:1", "http://[::1]:1"), ("x:1", "http://x:1")],
)
def test_clients_ask_a_server_of_every_interface_on_loopback(address: str, client: str) -> None:
    assert str(parse_address(address).client) == client


def test_our_variable_goes_before_ollamas() -> None:
    both = {"PANNIER_HOST": "a", "OLLAMA_HOST": "b"}
    assert server_address(both).host == "a"
    assert server_address({"OLLAMA_HOST": "b", "PANNIER_HOST": " "}).host == "b"
    assert configured_address({}) is None
    assert str(server_address({})) == "http://127.0.0.1:11434"
