"""How weights come into memory, and what a runner's environment says of memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import smollm2

from pannier.runtime.isolation import scrubbed_environment
from pannier.runtime.model import Model
from pannier.runtime.native import native
from pannier.runtime.request import LoadOptions


@pytest.mark.engine
@pytest.mark.parametrize(("use_mmap", "is_mapped"), [(None, False), (True, True), (False, False)])
def test_small_weights_are_read_unless_somebody_wants_them_mapped(
    use_mmap: bool | None, is_mapped: bool
) -> None:
    native().start()
    if native().api.llama_supports_gpu_offload():
        pytest.skip("with GPUs the library chooses")
    path = smollm2()
    model = Model.load([path], LoadOptions(use_mmap=use_mmap))
    maps = Path("/proc/self/maps").read_text()
    model.close()
    assert (str(path) in maps) is is_mapped


def test_a_runner_gets_huge_pages_unless_the_user_tunes_the_allocator() -> None:
    assert scrubbed_environment({})["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    own = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0", "SECRET": "x"}
    assert scrubbed_environment(own)["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"
    assert "SECRET" not in scrubbed_environment(own)
