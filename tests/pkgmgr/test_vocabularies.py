from __future__ import annotations

from pathlib import Path

import pytest
from support import gguf as make

from pannier.pkgmgr.gguf import Header, read_header
from pannier.pkgmgr.vocabularies import MOST_MORE, why_no_draft

MORE = tuple(f"▁more{number}" for number in range(MOST_MORE + 1))


def header_of(folder: Path, **changes: object) -> Header:
    path = folder / "model.gguf"
    make.tiny_llama(path, **changes)  # type: ignore[arg-type]  # arguments of mixed types by name
    with path.open("rb") as stream:
        return read_header(stream, size=path.stat().st_size, name="model")


def test_equal_vocabularies_fit(tmp_path: Path) -> None:
    small, large = header_of(tmp_path, blocks=1), header_of(tmp_path, blocks=3)
    assert why_no_draft(large, small) is None


def test_a_vocabulary_may_go_on_for_a_while(tmp_path: Path) -> None:
    small, large = header_of(tmp_path), header_of(tmp_path, words=(*make.WORDS, *MORE[:-1]))
    assert why_no_draft(large, small) is None
    assert why_no_draft(small, large) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"words": (*make.WORDS, *MORE)}, "it knows 492 tokens, not 363"),
        ({"words": ("▁x", *make.WORDS[1:])}, "its token 353 is '▁x', not '▁the'"),
        ({"metadata": {"tokenizer.ggml.eos_token_id": 0}}, "its eos token is 0, not 2"),
        ({"metadata": {"tokenizer.ggml.add_bos_token": False}}, "its bos token is -1, not 1"),
        ({"metadata": {"tokenizer.ggml.model": "gpt2"}}, "its vocabulary is of the kind 'gpt2'"),
    ],
)
def test_others_do_not(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    found = why_no_draft(header_of(tmp_path), header_of(tmp_path, **changes))
    assert found is not None
    assert found.startswith(reason)
