"""Model artifacts as other tools write them, one per dialect and version, byte for byte.

The shapes follow what each tool's source writes (named at each function); the model in them is
`gguf.minimal()`, so that every digest is the same on every machine.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pannier.pkgmgr import mediatypes as mt
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.store.store import Store

from . import gguf

MODEL = gguf.minimal(("general.file_type", gguf.U32, 15), ("general.name", gguf.STRING, "golden"))
PROJECTOR = gguf.minimal(("general.architecture", gguf.STRING, "clip"))
SHARDS = tuple(
    gguf.minimal(
        ("split.no", gguf.U16, number),
        ("split.count", gguf.U16, 2),
        ("split.tensors.count", gguf.I32, 2),
        tensors=[(f"blk.{number}.weight", (32, 4), 0, 0)],
    )
    for number in range(2)
)
LICENSE = b"Apache License\nVersion 2.0\n"
JINJA = b"{{ messages[0].content }}"
CREATED = "2026-01-02T03:04:05Z"
EMPTY = b"{}"


@dataclass(frozen=True)
class Artifact:
    """A manifest with every blob that it names.

    Attributes:
        dialect: the name of the dialect that must read it.
        origin: which tool writes this, by which source file.
    """

    dialect: str
    origin: str
    manifest: bytes
    media_type: str
    blobs: dict[Digest, bytes] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.manifest), len(self.manifest))

    def store(self, store: Store) -> Descriptor:
        """Put it into a store, without a name."""
        for digest, data in self.blobs.items():
            store.push(Descriptor("", digest, len(data)), io.BytesIO(data))
        store.push(self.descriptor, io.BytesIO(self.manifest))
        return self.descriptor


class Builder:
    """Collects blobs; `layer` and `config` give descriptors in one of the two key orders."""

    def __init__(self, *keys: str) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self._keys = keys or ("mediaType", "digest", "size")

    def layer(self, media_type: str, data: bytes, /, **rest: Any) -> dict[str, Any]:
        digest = Digest.of(data)
        self.blobs[digest] = data
        members = {"mediaType": media_type, "digest": str(digest), "size": len(data)}
        return {key: members[key] for key in self._keys} | rest

    def named(self, media_type: str, data: bytes, path: str, key: str) -> dict[str, Any]:
        return self.layer(media_type, data, annotations={key: path})


def tar(files: Iterable[tuple[str, bytes]], links: Iterable[tuple[str, str]] = ()) -> bytes:
    """A reproducible tar of files and symbolic links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return out.getvalue()


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def ollama() -> Artifact:
    b = Builder()
    config = (
        b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],'
        b'"model_type":"128","file_type":"Q4_K_M","architecture":"amd64","os":"linux"}'
    )
    prefix = mt.OLLAMA_PREFIX
    document = {
        "schemaVersion": 2,
        "mediaType": mt.DOCKER_MANIFEST,
        "config": b.layer(mt.DOCKER_CONFIG, config),
        "layers": [
            b.layer(prefix + "model", MODEL),
            b.layer(prefix + "template", b"{{ .Prompt }}"),
            b.layer(prefix + "system", b"Be kind."),
            b.layer(prefix + "license", LICENSE),
            b.layer(prefix + "params", b'{"stop":["\\u003ceot\\u003e"],"temperature":0.7}\n'),
            b.layer(prefix + "messages", b'[{"role":"user","content":"hi"}]\n'),
        ],
    }
    return Artifact(
        "ollama", "ollama push, server/images.go", dump(document), mt.DOCKER_MANIFEST, b.blobs
    )


def docker(version: str = "0.1") -> Artifact:
    b = Builder("mediaType", "size", "digest")
    config = {
        "config": {
            "format": "gguf",
            "quantization": "Q4_K_M",
            "parameters": "128",
            "architecture": "llama",
            "size": "1KiB",
            "context_size": 4096,
        },
        "descriptor": {"created": CREATED},
        "rootfs": {"type": "rootfs", "diff_ids": [str(Digest.of(MODEL))]},
    }
    if version == "0.1":
        layers = [
            b.named(mt.DMR_GGUF, MODEL, "golden.gguf", mt.CNCF_FILEPATH),
            b.named(mt.DMR_JINJA, JINJA, "chat_template.jinja", mt.CNCF_FILEPATH),
            b.named(mt.DMR_LICENSE, LICENSE, "LICENSE", mt.CNCF_FILEPATH),
        ]
    else:
        layers = [
            b.named(mt.DMR_FILE, LICENSE, "LICENSE", mt.CNCF_FILEPATH),
            b.named(mt.DMR_FILE, SHARDS[1], "m/m-00002-of-00002.gguf", mt.CNCF_FILEPATH),
            b.named(mt.DMR_GGUF, SHARDS[0], "m/m-00001-of-00002.gguf", mt.CNCF_FILEPATH),
        ]
    kind = f"{mt.DMR_CONFIG_PREFIX}v{version}+json"
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": b.layer(kind, dump(config)),
        "layers": layers,
    }
    return Artifact(
        "docker",
        f"docker model package, config v{version}, pkg/distribution/builder",
        dump(document),
        mt.OCI_MANIFEST,
        b.blobs,
    )


def modelpack(form: str = "raw", *, legacy: bool = False) -> Artifact:
    b = Builder()
    prefix, key = (
        (mt.CNAI_PREFIX, mt.CNAI_FILEPATH) if legacy else (mt.CNCF_PREFIX, mt.CNCF_FILEPATH)
    )
    pack: dict[str, Callable[[str, bytes], bytes]] = {
        "raw": lambda name, data: data,
        "tar": lambda name, data: tar([(name, data)]),
        "tar+gzip": lambda name, data: gzip.compress(tar([(name, data)]), mtime=0),
        "tar+zstd": lambda name, data: _zstd(tar([(name, data)])),
    }
    weight = pack[form]("golden.gguf", MODEL)
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": f"{prefix}manifest.v1+json",
        "config": b.layer(
            f"{prefix}config.v1+json",
            dump(
                {
                    "descriptor": {"createdAt": CREATED, "family": "llama", "name": "golden"},
                    "modelfs": {"type": "layers", "diffIds": [str(Digest.of(MODEL))]},
                    "config": {"format": "gguf", "paramSize": "128", "quantization": "Q4_K_M"},
                }
            ),
        ),
        "layers": [
            b.named(f"{prefix}weight.v1.{form}", weight, "golden.gguf", key),
            b.named(f"{prefix}doc.v1.{form}", pack[form]("LICENSE", LICENSE), "LICENSE", key),
            b.named(f"{prefix}weight.config.v1.raw", b"{}", "tokenizer.json", key),
        ],
    }
    return Artifact(
        "modelpack",
        f"modctl build, {form} layers{', cnai names' if legacy else ''}",
        dump(document),
        mt.OCI_MANIFEST,
        b.blobs,
    )


def kitops(form: str = "tar", *, new: bool = False) -> Artifact:
    b = Builder()
    kitfile = {
        "manifestVersion": "1.0.0",
        "package": {"name": "golden", "license": "Apache-2.0"},
        "model": {
            "name": "golden",
            "path": "model/golden.gguf",
            "format": "gguf",
            "parameters": {"temperature": 0.5, "learning_rate": 1},
            "parts": [{"name": "vision", "path": "model/mmproj.gguf"}],
        },
    }
    model = tar([("model/golden.gguf", MODEL)])
    part = tar([("model/mmproj.gguf", PROJECTOR)])
    if form == "tar+gzip":
        model = gzip.compress(model, mtime=0)
    if form == "raw":
        model = MODEL
    document: dict[str, Any] = {"schemaVersion": 2}
    if new:
        document["mediaType"] = mt.OCI_MANIFEST
        document["artifactType"] = mt.KIT_MANIFEST_PREFIX + "v1+json"
    model_layer = b.layer(f"{mt.KIT_PREFIX}model.v1.{form}", model)
    if new:
        model_layer["annotations"] = {mt.CNCF_FILEPATH: "model/golden.gguf"}
    document |= {
        "config": b.layer(mt.KIT_PREFIX + "config.v1+json", dump(kitfile)),
        "layers": [
            model_layer,
            b.layer(f"{mt.KIT_PREFIX}modelpart.v1.tar", part),
            b.layer(f"{mt.KIT_PREFIX}docs.v1.tar", tar([("README.md", b"# golden")])),
        ],
        "annotations": {"ml.kitops.modelkit.cli-version": "1.10.0" if new else "1.7.0"},
    }
    return Artifact(
        "kitops",
        f"kit pack {'1.10' if new else '1.7'}, {form}",
        dump(document),
        mt.OCI_MANIFEST,
        b.blobs,
    )


def jozu() -> Artifact:
    b = Builder()
    model = gzip.compress(tar([("golden.gguf", MODEL)]), mtime=0)
    document = {
        "schemaVersion": 2,
        "config": b.layer(mt.JOZU_PREFIX + "config.v1+json", dump({"package": {}})),
        "layers": [b.layer(mt.JOZU_PREFIX + "content.v1.tar+gzip", model)],
    }
    return Artifact("kitops", "jozu, before KitOps", dump(document), mt.OCI_MANIFEST, b.blobs)


def ramalama_image(kind: str = "raw") -> Artifact:
    b = Builder()
    layer = tar(
        [("models/golden/golden.gguf", MODEL), ("models/golden/chat_template", JINJA)],
        [("models/model.file", "golden/golden.gguf")],
    )
    layers = [b.layer(mt.OCI_LAYER_TAR + "+gzip", gzip.compress(layer, mtime=0))]
    if kind == "car":
        base = gzip.compress(tar([("bin/sh", b"#!")]), mtime=0)
        layers.insert(0, b.layer(mt.OCI_LAYER_TAR + "+gzip", base))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {mt.CONTAINERS_TYPE: mt.CONTAINERS_MODEL + kind}},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": b.layer(mt.OCI_CONFIG, dump(config)),
        "layers": layers,
    }
    return Artifact(
        "image", f"ramalama push --type {kind}", dump(document), mt.OCI_MANIFEST, b.blobs
    )


def ramalama_artifact() -> Artifact:
    b = Builder()
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": mt.CNCF_MANIFEST,
        "config": b.layer(mt.OCI_EMPTY, EMPTY, data=base64.b64encode(EMPTY).decode()),
        "layers": [
            b.named(mt.OCTET_STREAM, MODEL, "golden.gguf", mt.TITLE),
            b.named(mt.OCTET_STREAM, LICENSE, "LICENSE", mt.TITLE),
        ],
    }
    return Artifact(
        "artifact", "podman artifact add, by ramalama", dump(document), mt.OCI_MANIFEST, b.blobs
    )


def llmman(form: str = "weight") -> Artifact:
    b = Builder()
    config = dump({"descriptor": {}, "modelfs": {"type": "layers", "diffIds": []}, "config": {}})
    kinds = {
        "weight": mt.CNCF_WEIGHT_RAW,
        "dmr": mt.DMR_GGUF,
        "build": mt.CNCF_PREFIX + "weight.v1.tar",
    }
    data = tar([("golden.gguf", MODEL)]) if form == "build" else MODEL
    layers = [b.named(kinds[form], data, "golden.gguf", mt.CNCF_FILEPATH)]
    if form == "weight":
        layers.append(b.named(kinds[form], PROJECTOR, "mmproj-f16.gguf", mt.CNCF_FILEPATH))
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": mt.CNCF_MANIFEST,
        "config": b.layer(mt.CNCF_CONFIG, config),
        "layers": layers,
    }
    return Artifact("modelpack", f"llmman, {form}", dump(document), mt.OCI_MANIFEST, b.blobs)


def oras(*, title: bool = True) -> Artifact:
    b = Builder()
    layer = b.layer(mt.OCI_LAYER_TAR, MODEL)
    if title:
        layer["annotations"] = {mt.TITLE: "golden.gguf"}
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": mt.UNKNOWN_ARTIFACT,
        "config": b.layer(mt.OCI_EMPTY, EMPTY, data="e30="),
        "layers": [layer],
        "annotations": {mt.CREATED: CREATED},
    }
    return Artifact(
        "artifact",
        f"oras push, {'with' if title else 'without'} a title",
        dump(document),
        mt.OCI_MANIFEST,
        b.blobs,
    )


def oras_py() -> Artifact:
    b = Builder()
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": b.layer(mt.UNKNOWN_CONFIG, EMPTY),
        "layers": [b.named(mt.OCI_LAYER_TAR, MODEL, "golden.gguf", mt.TITLE)],
        "annotations": {},
    }
    return Artifact("artifact", "oras-py push", dump(document), mt.OCI_MANIFEST, b.blobs)


def omlmd() -> Artifact:
    b = Builder()
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": b.layer(mt.OMLMD_CONFIG, dump({"name": "golden"})),
        "layers": [b.named(mt.OMLMD_MODEL, MODEL, "golden.bin", mt.TITLE)],
    }
    return Artifact("artifact", "omlmd push", dump(document), mt.OCI_MANIFEST, b.blobs)


def catalogue() -> dict[str, Artifact]:
    """Every shape, under the name of its golden file."""
    return {
        "ollama": ollama(),
        "docker-v0.1": docker("0.1"),
        "docker-v0.2": docker("0.2"),
        "modelpack-raw": modelpack("raw"),
        "modelpack-tar": modelpack("tar"),
        "modelpack-gzip": modelpack("tar+gzip"),
        "modelpack-zstd": modelpack("tar+zstd"),
        "modelpack-cnai": modelpack("raw", legacy=True),
        "kitops-1.7": kitops("tar"),
        "kitops-1.7-gzip": kitops("tar+gzip"),
        "kitops-1.10-raw": kitops("raw", new=True),
        "kitops-1.10-tar": kitops("tar", new=True),
        "jozu": jozu(),
        "ramalama-raw": ramalama_image("raw"),
        "ramalama-car": ramalama_image("car"),
        "ramalama-artifact": ramalama_artifact(),
        "llmman": llmman("weight"),
        "llmman-dmr": llmman("dmr"),
        "llmman-build": llmman("build"),
        "oras": oras(),
        "oras-untitled": oras(title=False),
        "oras-py": oras_py(),
        "omlmd": omlmd(),
    }


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=3).compress(data)
