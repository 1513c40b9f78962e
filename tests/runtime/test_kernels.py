from __future__ import annotations

from pathlib import Path

import pytest

from pannier.runtime.kernels import cpu_features, kernel_advice

XEON, PLAIN_X86, ARM = frozenset({"avx2", "avx512f"}), frozenset({"avx2"}), frozenset({"asimddp"})


@pytest.mark.parametrize(
    ("kind", "features", "is_advised"),
    [
        ("Q4_1", XEON, True),
        ("Q4_0", XEON, False),
        ("Q8_0", XEON, False),
        ("Q2_K", XEON, False),
        ("Q2_K", PLAIN_X86, True),
        ("Q6_K", PLAIN_X86, True),
        ("Q6_K", ARM, False),
        ("Q4_1", ARM, True),
        ("Q4_1", frozenset(), False),
    ],
)
def test_advice_is_given_where_a_better_type_is(
    kind: str, features: frozenset[str], is_advised: bool
) -> None:
    advice = kernel_advice(kind, features)
    assert bool(advice) is is_advised
    assert advice is None or "Q4_K_M or Q4_0 would be faster" in advice


def test_a_cpu_is_known_by_its_flags(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu sse avx2 avx512f\nbugs\t: none\n")
    assert cpu_features(path) == XEON
    path.write_text("Features\t: fp asimd asimddp i8mm\n")
    assert cpu_features(path) == ARM
