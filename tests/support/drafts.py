"""Model drafts and in-memory blobs for tests of dialects."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.dialects.base import Composition, DraftFile, ModelDraft
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.modelspec import ChatMessage, Role


def opener(composition: Composition) -> Callable[[Descriptor], bytes]:
    """Reads the small blobs of a composition."""
    blobs = {descriptor.digest: data for descriptor, data in composition.blobs}

    def open_blob(descriptor: Descriptor) -> bytes:
        return blobs[descriptor.digest]

    return open_blob


def file_of(role: Role, content: str) -> DraftFile:
    data = content.encode()
    return DraftFile(role, Digest.of(data), len(data))


FULL = ModelDraft(
    files=(
        file_of(Role.WEIGHTS, "weights"),
        file_of(Role.PROJECTOR, "projector"),
        file_of(Role.ADAPTER, "adapter"),
        file_of(Role.DRAFT, "draft"),
    ),
    template="{{ .System }} <{{ .Prompt }}>",
    jinja_template="{{ messages }}",
    system="You carry packs & bags.",
    params={"temperature": 0.7, "stop": ["<eot>", "\u2028"], "num_ctx": 4096},
    messages=(ChatMessage("user", "hi"), ChatMessage("assistant", "")),
    licenses=("MIT\n", "Apache\n"),
    settings={"renderer": "qwen3", "requires": "0.6.0"},
    details={
        "format": "gguf",
        "family": "llama",
        "families": ["llama", "clip"],
        "parameter_size": "134.52M",
        "quantization_level": "Q4_1",
    },
    title="tiny",
    spdx="Apache-2.0",
)
MINIMAL = ModelDraft(files=(file_of(Role.WEIGHTS, "weights"),))

_texts = st.one_of(st.none(), st.text(max_size=30))
_params = st.dictionaries(
    st.sampled_from(["temperature", "top_k", "stop", "seed", "use_mmap"]),
    st.one_of(
        st.integers(-(2**53), 2**53),
        st.floats(-1e9, 1e9),
        st.booleans(),
        st.lists(st.text(max_size=8), max_size=3),
    ),
    max_size=5,
)
_messages = st.builds(
    ChatMessage, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=20)
)


@st.composite
def drafts(draw: st.DrawFn) -> ModelDraft:
    """Drafts of all shapes."""
    shards = draw(st.integers(1, 3))
    files = [file_of(Role.WEIGHTS, f"weights {number}") for number in range(shards)]
    if draw(st.booleans()):
        files.append(file_of(Role.PROJECTOR, "projector"))
    files += [file_of(Role.ADAPTER, f"adapter {n}") for n in range(draw(st.integers(0, 2)))]
    return ModelDraft(
        files=tuple(files),
        template=draw(_texts),
        jinja_template=draw(_texts),
        system=draw(_texts),
        params=draw(_params),
        messages=tuple(draw(st.lists(_messages, max_size=3))),
        licenses=tuple(draw(st.lists(st.text(max_size=20), max_size=3))),
        title=draw(_texts),
        spdx=draw(st.one_of(st.none(), st.just("MIT"))),
    )
