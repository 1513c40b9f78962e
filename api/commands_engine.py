"""Commands of the engine itself: quantize and bench."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pannier.pkgmgr.cli.names import load_settings
from pannier.pkgmgr.cli.options import Json, Quiet
from pannier.pkgmgr.cli.output import Output, human_size

if TYPE_CHECKING:
    from pannier.pkgmgr.modelspec import ModelSpec
    from pannier.pkgmgr.reference import Reference
    from pannier.pkgmgr.store.store import Store
    from pannier.runtime.interface import ModelSource
    from pannier.runtime.measure import Measurement

# Templates, licences and the like; the weights are never read whole.
_MAX_BLOB = 16 << 20


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("quantize")(quantize)
    app.command("bench")(bench)


def quantize(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A GGUF file, or a stored model.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="A .gguf file, or a model name.")],
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="q4_K_M, q8_0, q4_0, …")],
    again: Annotated[
        bool, typer.Option("--again", help="Also where SRC is quantized already.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model with smaller weights."""
    from pannier.pkgmgr.store.store import Store
    from pannier.runtime.quantize import quantize as quantize_file

    output = Output(as_json=as_json, quiet=quiet)
    settings = load_settings()
    store = Store.open(settings.home)
    spec = None if Path(source).is_file() else _spec(store, source)
    weights = Path(source) if spec is None else _only_weights(store, spec)

    def show(done: int, total: int) -> None:
        output.steps(f"quantizing to {kind}", done, total)

    if target.endswith(".gguf"):
        quantize_file(weights, Path(target), kind, again=again, name=source, on_progress=show)
        size = Path(target).stat().st_size
        record: dict[str, Any] = {"file": target, "size": size, "type": kind}
        output.result(record, lines=[f"{target} ({human_size(size)})"])
        return
    with tempfile.TemporaryDirectory(dir=store.root) as folder:
        path = Path(folder) / "model.gguf"
        quantize_file(weights, path, kind, again=again, name=source, on_progress=show)
        digest = _create(store, spec, path, target)
    output.result({"name": target, "digest": digest, "type": kind}, lines=[digest])


def bench(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    as_json: Json = False,
) -> None:
    """Measure a model on this machine.

    Reading, answering, many requests at a time, memory.
    """
    from pannier.pkgmgr.store.store import Store
    from pannier.runtime.measure import measure

    from .environment import load_options
    from .environment import machine as runner_machine

    settings = load_settings()
    source = _source(Store.open(settings.home), model)
    result = measure(source, defaults=load_options(os.environ), machine=runner_machine(os.environ))
    Output(as_json=as_json).result(result.record(), lines=_lines(result))


def _lines(result: Measurement) -> list[str]:
    lines = [
        f"reading a prompt      {result.prefill:8.1f} tokens/s",
        *(
            f"answering, {count} at once {rate:9.1f} tokens/s  ({rate / result.decode[1]:.2f} ×)"
            for count, rate in result.decode.items()
        ),
        f"first token, cold     {result.first_cold_s * 1e3:8.0f} ms",
        f"first token, shared   {result.first_shared_s * 1e3:8.0f} ms"
        f"  ({result.prompt_shared} prompt tokens shared, {result.prompt_computed} computed)",
        f"memory                {human_size(result.memory):>8}",
        f"bandwidth used        {result.bandwidth_share:8.0%} of {result.bandwidth / 1e9:.1f} GB/s,"
        f" which would be {result.decode[1] / result.bandwidth_share:.0f} tokens/s",
    ]
    return [*lines, result.advice] if result.advice else lines


def _spec(store: Store, name: str) -> ModelSpec:
    from pannier.pkgmgr.dialects import read_spec
    from pannier.pkgmgr.errors import UnknownDialect
    from pannier.pkgmgr.manifest import Manifest

    entry = store.find(load_settings().parse(name))
    manifest = store.manifest(entry.descriptor.digest)
    if not isinstance(manifest, Manifest):
        raise UnknownDialect(
            "it is an index of several models", digest=str(entry.descriptor.digest)
        )
    return read_spec(manifest, lambda blob: store.read(blob, max_size=_MAX_BLOB))


def _source(store: Store, name: str) -> ModelSource:
    from pannier.runtime.interface import ModelSource

    spec = _spec(store, name)
    return ModelSource(spec.digest, name, spec.files(store.path))


def _only_weights(store: Store, spec: ModelSpec) -> Path:
    from pannier.runtime.errors import UnsupportedRequest

    weights = spec.files(store.path).weights
    if len(weights) != 1:
        raise UnsupportedRequest("a model in several weight files cannot be quantized")
    return weights[0]


def _create(store: Store, spec: ModelSpec | None, weights: Path, target: str) -> str:
    """Store a model of these weights and all else that `spec` has."""
    from pannier.pkgmgr.modelfile.build import create
    from pannier.pkgmgr.modelfile.syntax import parse

    reference = load_settings().parse(target).with_digest(None)
    if spec is None:
        modelfile = parse(f"FROM ./{weights.name}\n")
        return str(create(store, modelfile, reference, base_dir=weights.parent).digest)
    return _replace_weights(store, spec, weights, reference)


def _replace_weights(store: Store, spec: ModelSpec, weights: Path, reference: Reference) -> str:
    from pannier.pkgmgr.dialects import modelpack
    from pannier.pkgmgr.dialects.base import DraftFile, ModelDraft
    from pannier.pkgmgr.gguf import read_header
    from pannier.pkgmgr.modelfile.build import put
    from pannier.pkgmgr.modelspec import Role

    with weights.open("rb") as stream:
        header = read_header(stream, size=weights.stat().st_size, name=weights.name)
    with store.lease():
        digest, size = store.ingest_file(weights, on_bytes=None)
        same = ModelDraft.of(spec)
        others = (file for file in same.files if file.role is not Role.WEIGHTS)
        draft = replace(
            same,
            files=(DraftFile(Role.WEIGHTS, digest, size), *others),
            details={**same.details, "quantization_level": header.quantization},
            title=header.text("general.name"),
        )
        descriptor = put(store, modelpack.compose(draft))
        store.tag(descriptor, reference)
    return str(descriptor.digest)
