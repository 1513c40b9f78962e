"""A projector and the images that are kept for it count as memory of their model."""

from __future__ import annotations

from pathlib import Path

from support.models import smollm2
from support.tinyvision import tiny_projector

from pannier.pkgmgr import gguf
from pannier.runtime.machine import Room
from pannier.runtime.memory import projector_bytes
from pannier.runtime.pictures import PICTURES_BUDGET
from pannier.runtime.request import LoadOptions


def header_of(path: Path) -> gguf.Header:
    with path.open("rb") as stream:
        return gguf.read_header(stream, size=path.stat().st_size, name=path.name)


def test_a_projector_counts_as_memory_of_its_model(tmp_path: Path) -> None:
    extra = projector_bytes(header_of(tiny_projector(tmp_path / "mmproj.gguf", 576)))
    header = header_of(smollm2())
    bare = Room(1 << 40).plan([header], LoadOptions())
    assert extra > PICTURES_BUDGET
    assert Room(1 << 40).beside(extra).plan([header], LoadOptions()).total == bare.total + extra
    tight = Room(bare.total + extra - 1).beside(extra)
    assert tight.plan([header], LoadOptions()).cells < bare.cells
