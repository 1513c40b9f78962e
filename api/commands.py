"""Commands of the server and of its clients: serve, ps, stop; and `run`, from `api.console`."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pannier.pkgmgr.cli.options import Insecure, Json, PlainHttp, Quiet
from pannier.pkgmgr.cli.output import Output, human_age, human_size
from pannier.pkgmgr.errors import InvalidOption, NetworkError

from .address import Address, parse_address, server_address
from .client import Client, HTTPClient

if TYPE_CHECKING:
    import ssl

    from pannier.pkgmgr.settings import Settings

    from .guard import Guard
    from .registry.options import Options

Listen = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Instead of PANNIER_HOST.")
]
AllowRemote = Annotated[
    bool, typer.Option("--allow-remote", help="Listen where other machines can reach it.")
]
TlsCert = Annotated[Path | None, typer.Option("--tls-cert", help="A PEM file.")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="A PEM file.")]
AllowHost = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", help="A name that clients call this by."),
]
UpstreamRegistry = Annotated[
    str | None,
    typer.Option("--upstream", metavar="HOST[/PREFIX]", help="Be a bridge to a registry."),
]
CacheSize = Annotated[
    str | None,
    typer.Option("--cache-size", metavar="SIZE", help="What a bridge keeps at most; 0 is nothing."),
]
MaxStoreSize = Annotated[
    str | None,
    typer.Option("--max-store-size", metavar="SIZE", help="Refuse pushes beyond it."),
]
MaxUploadSize = Annotated[
    str | None, typer.Option("--max-upload-size", metavar="SIZE", help="Refuse longer blobs.")
]
ReadOnly = Annotated[
    bool, typer.Option("--read-only", help="Nothing can be pushed to the registry.")
]

Threads = Annotated[
    int | None, typer.Option("--threads", min=0, help="Of all decoders together; 0 is all cores.")
]
GpuLayers = Annotated[
    int | None, typer.Option("--gpu-layers", min=-1, help="On GPUs; -1 is as many as fit.")
]
SplitMode = Annotated[
    str | None, typer.Option("--split-mode", help="How GPUs share a model: none, layer or row.")
]
TensorSplit = Annotated[
    str | None,
    typer.Option("--tensor-split", metavar="A,B,…", help="What each GPU gets, in any unit."),
]
MainGpu = Annotated[
    int | None, typer.Option("--main-gpu", min=0, help="The one that --split-mode none uses.")
]
RunnerMemory = Annotated[
    str | None,
    typer.Option("--runner-memory", metavar="SIZE", help="Address space of a model's process."),
]
RunnerCpuTime = Annotated[
    str | None,
    typer.Option("--runner-cpu-time", metavar="TIME", help="CPU time of a model's process."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    from .console.run import RunCommand, run

    app.command("run", cls=RunCommand)(run)
    app.command("serve")(serve)
    app.command("ps")(ps)
    app.command("stop")(stop)


def serve(
    listen: Listen = None,
    allow_remote: AllowRemote = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    allow_host: AllowHost = None,
    upstream: UpstreamRegistry = None,
    cache_size: CacheSize = None,
    max_store_size: MaxStoreSize = None,
    max_upload_size: MaxUploadSize = None,
    read_only: ReadOnly = False,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    split_mode: SplitMode = None,
    tensor_split: TensorSplit = None,
    main_gpu: MainGpu = None,
    runner_memory: RunnerMemory = None,
    runner_cpu_time: RunnerCpuTime = None,
    plain_http: PlainHttp = False,
    insecure: Insecure = False,
    quiet: Quiet = False,
) -> None:
    """Serve the Ollama and OpenAI APIs, and be a registry."""
    from pannier.pkgmgr.cli.names import settings_for

    from .environment import origins, with_flags
    from .guard import Guard
    from .registry.options import registry_options

    address = parse_address(listen) if listen else server_address(os.environ)
    _refuse_strangers(address, allow_remote)
    tls = _tls(tls_cert, tls_key)
    settings = settings_for(plain_http=plain_http, insecure=insecure)
    options = registry_options(
        settings,
        upstream=upstream,
        cache_size=cache_size,
        max_store_size=max_store_size,
        max_upload_size=max_upload_size,
        read_only=read_only,
    )
    guard = Guard.of(hosts=[socket.gethostname(), *(allow_host or ())], origins=origins(os.environ))
    environ = with_flags(
        os.environ,
        NUM_THREAD=threads,
        NUM_GPU=gpu_layers,
        SPLIT_MODE=split_mode,
        TENSOR_SPLIT=tensor_split,
        MAIN_GPU=main_gpu,
        RUNNER_MEMORY=runner_memory,
        RUNNER_CPU_TIME=runner_cpu_time,
    )
    _serve(environ, settings, options, address, guard=guard, tls=tls, output=Output(quiet=quiet))


def _serve(
    environ: Mapping[str, str],
    settings: Settings,
    options: Options,
    address: Address,
    *,
    guard: Guard,
    tls: ssl.SSLContext | None,
    output: Output,
) -> None:
    from pannier.pkgmgr.store.collect import STATES
    from pannier.pkgmgr.store.store import Store

    from .admission import Admission
    from .app import create_app
    from .environment import max_queue, open_runtime
    from .registry.routes import registry_blueprint
    from .server import SPARE_THREADS, Server
    from .server import serve as serve_until_stopped
    from .service import Service

    states = settings.home / STATES
    with open_runtime(environ, states=states, advise=output.notice) as runtime:
        store = Store.open(settings.home)
        registry = registry_blueprint(store, options=options)
        service = Service(store, settings, runtime, on_event=output.note_event)
        limit = max_queue(environ)
        app = create_app(service, guard=guard, admission=Admission(limit), blueprints=(registry,))
        threads = limit + SPARE_THREADS
        server = Server(app, address.host, address.port, tls=tls, max_threads=threads)
        service.library.warm_aside()
        try:
            serve_until_stopped(
                server, on_ready=lambda url: output.notice(f"listening on {url}; Ctrl-C ends it")
            )
        except OSError as error:
            raise _cannot_listen(address, error) from error


def ps(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only names that begin so.")] = "",
    as_json: Json = False,
) -> None:
    """List the models that the server has in memory."""
    models = [
        model
        for model in _client().request("GET", "/api/ps").get("models", [])
        if str(model.get("name", "")).lower().startswith(prefix.lower())
    ]
    output = Output(as_json=as_json)
    output.table(
        ("NAME", "DIGEST", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"),
        map(_ps_row, models),
        records=models,
    )
    for model in models:
        if model.get("advice") and not as_json:
            output.notice(f"{model.get('name')}: {model['advice']}")


def stop(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let the server unload a model."""
    body = {"model": model, "keep_alive": 0, "stream": False}
    _client().request("POST", "/api/generate", body)
    output = Output(as_json=as_json, quiet=quiet)
    output.result({"model": model})
    if not as_json:
        output.notice(f"stopped {model}")


def _client() -> Client:
    return HTTPClient(server_address(os.environ))


def _ps_row(model: Mapping[str, Any]) -> tuple[str, ...]:
    size, on_gpu = int(model.get("size", 0)), int(model.get("size_vram", 0))
    return (
        str(model.get("name", "")),
        str(model.get("digest", ""))[:12],
        human_size(size),
        _processor(size, on_gpu),
        str(model.get("context_length", "")),
        _until(str(model.get("expires_at", ""))),
    )


def _processor(size: int, on_gpu: int) -> str:
    if not on_gpu:
        return "100% CPU"
    if on_gpu >= size:
        return "100% GPU"
    share = round(100 * on_gpu / size)
    return f"{100 - share}%/{share}% CPU/GPU"


def _until(moment: str) -> str:
    """When a model goes, from RFC 3339; a time beyond twenty years is Ollama's "forever"."""
    import re
    import time
    from datetime import datetime

    try:
        # Python takes six digits of a second's fraction at most, Go writes nine.
        then = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", moment)).timestamp()
    except ValueError:
        return "unknown"
    now = time.time()
    if then - now > 20 * 365 * 86400:
        return "forever"
    if then <= now:
        return "stopping"
    return human_age(2 * now - then, now).replace("ago", "from now").replace("just now", "soon")


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    from .server import tls_context

    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise InvalidOption("--tls-cert and --tls-key go together")
    try:
        return tls_context(cert, key)
    except OSError as error:
        reason = error.strerror or error
        raise InvalidOption(f"cannot use certificate {cert} with key {key}: {reason}") from error


def _refuse_strangers(address: Address, allow_remote: bool) -> None:
    if allow_remote or address.host == "localhost":
        return
    try:
        is_loopback = ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise InvalidOption(
            f"{address.netloc} can be reached from other machines, and the server asks nobody who"
            " they are",
            hint="`pannier serve --allow-remote` listens there all the same",
        )


def _cannot_listen(address: Address, error: OSError) -> NetworkError:
    hint = "choose another address with --listen or PANNIER_HOST"
    if error.errno == errno.EADDRINUSE:
        hint = f"a server is there already; {hint}"
    return NetworkError(
        f"cannot listen on {address.netloc}: {error.strerror or error}",
        place=address.netloc,
        hint=hint,
    )
