"""Commands on the store of this machine: list, show, cp, rm. None needs a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import operations
from ..errors import InvalidOption
from ..settings import Settings
from ..store.store import Store
from .names import Name, Names, parse_name
from .network import with_network
from .options import Json, Quiet, Yes
from .output import Output, human_age, human_size, one_line, plain
from .services import service

if TYPE_CHECKING:
    from ..gguf import Header
    from ..modelspec import ModelSpec
    from ..reference import Reference

# `show` prints this many lines of a licence; `--license` prints all of them.
_LICENSE_LINES = 2
_VALUE_COLUMNS = 100


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("list")(list_models)
    app.command("ls", hidden=True)(list_models)
    app.command("show")(with_network(show))
    app.command("cp")(copy)
    app.command("rm")(remove)


def list_models(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only names that begin so.")] = "",
    as_json: Json = False,
) -> None:
    """List the models in the store, the newest first."""
    models = [
        model
        for model in operations.list_models(Store.open())
        if model.reference.familiar.lower().startswith(prefix.lower())
    ]
    Output(as_json=as_json).table(
        ("NAME", "DIGEST", "SIZE", "DIALECT", "MODIFIED"),
        (
            (
                model.reference.familiar,
                model.digest.short,
                human_size(model.size),
                model.dialect,
                human_age(model.modified),
            )
            for model in models
        ),
        records=map(_record, models),
    )


def show(
    context: typer.Context,
    name: Name,
    settings: Settings,
    as_json: Json = False,
    modelfile: Annotated[bool, typer.Option("--modelfile", help="Only the Modelfile.")] = False,
    parameters: Annotated[bool, typer.Option("--parameters", help="Only the parameters.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Only the template.")] = False,
    effective: Annotated[
        bool, typer.Option("--effective", help="With --template: the one that is used, and why.")
    ] = False,
    system: Annotated[bool, typer.Option("--system", help="Only the system prompt.")] = False,
    license_: Annotated[bool, typer.Option("--license", help="Only the licences.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also the GGUF's metadata and tensors.")
    ] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Ask the registry; no weights are fetched.")
    ] = False,
) -> None:
    """Show what a model is and how it is set up."""
    store = Store.open()
    far_header = None
    if remote:
        model, far_header = _read_remote(settings.parse(name), settings)
    else:
        model = operations.read_model(store, settings.parse(name))
    spec = model.spec
    parts = {
        "modelfile": lambda: operations.modelfile_text(store, model),
        "parameters": lambda: "\n".join(_parameter_lines(spec.params)),
        "template": lambda: spec.template or spec.jinja_template or "",
        "system": lambda: spec.system or "",
        "license": lambda: "\n\n".join(spec.licenses),
    }
    wanted = (modelfile, parameters, template, system, license_)
    chosen = [part for part, is_wanted in zip(parts, wanted, strict=True) if is_wanted]
    if len(chosen) > 1:
        raise InvalidOption(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    if effective:
        if chosen != ["template"]:
            raise InvalidOption("--effective goes with --template")
        _show_effective(context, store, spec, as_json=as_json)
        return
    if chosen:
        text = parts[chosen[0]]()
        Output(as_json=as_json).result({chosen[0]: text}, lines=[plain(text)] if text else [])
        return
    header = far_header or operations.read_header(store, spec)
    record = _show_record(model, header) | {"modelfile": parts["modelfile"]()}
    lines = [*_show_lines(model, header)]
    verdict = _verdict(store, model)
    record |= verdict[0]
    lines += verdict[1]
    if verbose:
        record |= {"metadata": _metadata(header), "tensors": _tensor_records(header)}
        lines += _verbose_lines(header)
    Output(as_json=as_json).result(record, lines=lines)


def _read_remote(reference: Reference, settings: Settings) -> tuple[operations.Model, Header]:
    from ..inspecting import read_remote

    return read_remote(reference, settings=replace(settings, login_host=reference.host))


def _show_effective(
    context: typer.Context, store: Store, spec: ModelSpec, *, as_json: bool
) -> None:
    """The template that makes the prompts; only the runtime knows which that is."""
    tell = service(context, "effective_template", option="--effective")
    found = tell(spec, operations.read_header(store, spec, arrays=True))
    output = Output(as_json=as_json)
    output.notice(f"{found['engine']}: {found['reason']}")
    if found["warning"]:
        output.notice(f"warning: {found['warning']}")
    output.result(found, lines=[plain(found["template"])] if found["template"] else [])


def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model of the store.")],
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="Its second name.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give a model a second name. No content is copied."""
    target = parse_name(destination)
    descriptor = operations.copy_name(Store.open(), parse_name(source), target)
    output = Output(as_json=as_json, quiet=quiet)
    output.result({"name": target.familiar, "digest": str(descriptor.digest)})
    if not as_json:
        output.notice(f"copied {source} to {target.familiar}")


def remove(names: Names, yes: Yes = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Remove models, and the content no other model needs."""
    import sys

    store = Store.open()
    references = [parse_name(name) for name in names]
    found = [store.find(reference).reference.familiar for reference in references]
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(f"Remove {', '.join(found)}?", abort=True, err=True)
    removed = operations.remove(store, references)
    output = Output(as_json=as_json, quiet=quiet)
    output.result({"removed": [item.familiar for item in removed.references], "size": removed.size})
    if not as_json:
        output.notice(f"removed {', '.join(found)}; {human_size(removed.size)} freed")


def _record(model: operations.Listed) -> dict[str, Any]:
    modified = datetime.fromtimestamp(model.modified, UTC).isoformat().replace("+00:00", "Z")
    return {
        "name": model.reference.familiar,
        "reference": str(model.reference),
        "digest": str(model.digest),
        "size": model.size,
        "modified": modified,
        "dialect": model.dialect,
    }


def _show_record(model: operations.Model, header: Header) -> dict[str, Any]:
    spec = model.spec
    return {
        "name": model.entry.reference.familiar,
        "digest": str(model.entry.descriptor.digest),
        "dialect": spec.dialect,
        "architecture": header.architecture,
        "parameter_count": header.parameter_count,
        "quantization": header.quantization,
        "context_length": _number(header, "context_length"),
        "embedding_length": _number(header, "embedding_length"),
        "parameters": dict(spec.params),
        "template": spec.template,
        "jinja_template": spec.jinja_template,
        "system": spec.system,
        "messages": [{"role": item.role, "content": item.content} for item in spec.messages],
        "licenses": list(spec.licenses),
        "layers": [
            {
                "role": str(part.role),
                "digest": str(part.descriptor.digest),
                "size": part.descriptor.size,
                "media_type": part.descriptor.media_type,
            }
            for part in spec.parts
        ],
    }


def _show_lines(model: operations.Model, header: Header) -> Iterator[str]:
    spec = model.spec
    facts = {
        "name": model.entry.reference.familiar,
        "digest": str(model.entry.descriptor.digest),
        "dialect": spec.dialect,
        "architecture": header.architecture,
        "parameters": human_count(header.parameter_count),
        "quantization": header.quantization,
        "context length": str(_number(header, "context_length") or "unknown"),
        "embedding length": str(_number(header, "embedding_length") or "unknown"),
    }
    yield from _section(
        "Model", [f"{key:<18}{one_line(str(value))}" for key, value in facts.items()]
    )
    yield from _section("Parameters", _parameter_lines(spec.params))
    yield from _section("System", plain(spec.system or "").splitlines())
    for text in spec.licenses:
        yield from _section("License", plain(text).strip().splitlines()[:_LICENSE_LINES])


def _metadata(header: Header) -> dict[str, Any]:
    """GGUF metadata as JSON has it; of long arrays the type and the count."""
    from ..gguf import ArrayInfo

    found: dict[str, Any] = {}
    for key, value in header.metadata.items():
        if isinstance(value, ArrayInfo):
            found[key] = {"type": value.type, "count": value.count}
        else:
            found[key] = value if isinstance(value, str | int | float) else list(value)
    return found


def _tensor_records(header: Header) -> list[dict[str, Any]]:
    return [
        {"name": t.name, "type": t.type, "shape": list(t.shape), "size": t.size}
        for t in header.tensors
    ]


def _verbose_lines(header: Header) -> Iterator[str]:
    import json

    metadata = [
        f"{one_line(key):<44} {one_line(json.dumps(value, ensure_ascii=False))[:_VALUE_COLUMNS]}"
        for key, value in _metadata(header).items()
    ]
    yield from _section("Metadata", metadata)
    tensors = [
        f"{one_line(t.name):<44} {t.type:<8} {'×'.join(map(str, t.shape))}" for t in header.tensors
    ]
    yield from _section("Tensors", tensors)


def _verdict(store: Store, model: operations.Model) -> tuple[dict[str, Any], Iterator[str]]:
    """What the trust policy last said of the model, nothing where it never did."""
    from ..trust import gate

    found = gate.recorded(store, model.entry.reference)
    if found is None or found.digest != model.entry.descriptor.digest:
        return {}, iter(())
    return {"trust": gate.record_json(found)}, _section("Trust", list(gate.record_lines(found)))


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"  {title}"
        yield from (f"    {line}" for line in lines)
        yield ""


def _parameter_lines(params: Mapping[str, Any]) -> list[str]:
    pairs = [
        (name, item)
        for name, value in params.items()
        for item in (value if isinstance(value, (list, tuple)) else [value])
    ]
    return [f"{name:<18}{_parameter(value)}" for name, value in pairs]


def _parameter(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _number(header: Header, name: str) -> int | None:
    value = header.metadata.get(f"{header.architecture}.{name}")
    return value if isinstance(value, int) else None


def human_count(count: int) -> str:
    """A number of parameters as model names have it.

    >>> human_count(134_515_008), human_count(8_030_000_000)
    ('134.52M', '8.03B')
    """
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.2f}".rstrip("0").rstrip(".") + name
    return str(count)
