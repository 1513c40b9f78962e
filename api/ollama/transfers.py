"""Ollama's routes that move content: blobs, pull, push, create."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, Response, request

from pannier.pkgmgr import operations
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    BlobNotFound,
    InvalidDigest,
    InvalidReference,
    ModelNotFound,
    NotGGUF,
)
from pannier.pkgmgr.modelfile.build import assemble
from pannier.pkgmgr.modelfile.gather import StoredFile
from pannier.pkgmgr.modelfile.parameters import check_values
from pannier.pkgmgr.modelfile.recipe import Ingredients, check_requires
from pannier.pkgmgr.modelspec import ChatMessage, Role
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import RegistrySettings, Settings
from pannier.pkgmgr.transfer.events import OnEvent
from pannier.runtime.quantize import file_type, quantizer
from pannier.runtime.template.ollama import OllamaTemplate

from ..errors import RequestError
from ..service import Service
from ..streaming import client_gone
from ..wire import read_body
from .progress import Status, progress_response
from .schema import CreateRequest, TransferRequest

_COPY_BYTES = 1 << 20
_MAX_FILES = 64
# Fields of a create request that have no effect here, and why.
_REFUSED = {
    "info": "what a model is, its files say",
    "remote_host": "there are no models on other servers",
    "draft_quantize": "quantize the draft model by itself",
}


def add_routes(routes: Blueprint, service: Service) -> None:
    """Add the routes of this module."""

    @routes.get("/api/blobs/<digest>")
    def has_blob(digest: str) -> Response:
        # Only HEAD is Ollama's; a GET would hand out weights beside the registry's access rules.
        if request.method != "HEAD":
            return Response("405 method not allowed", 405, content_type="text/plain")
        wanted = _digest(digest)
        if not service.store.path(wanted).is_file():
            raise RequestError(404, f'blob "{wanted}" not found')
        return Response(status=200)

    @routes.post("/api/blobs/<digest>")
    def put_blob(digest: str) -> Response:
        return Response(status=_take_blob(service, _digest(digest)))

    @routes.post("/api/pull")
    def pull() -> Response:
        return _pull(service, read_body(TransferRequest))

    @routes.post("/api/push")
    def push() -> Response:
        return _push(service, read_body(TransferRequest))

    @routes.post("/api/create")
    def create() -> Response:
        return _create(service, read_body(CreateRequest))


def _digest(text: str) -> Digest:
    try:
        # Ollama's own clients write `sha256-…` as well.
        digest = Digest.parse(text.replace("sha256-", "sha256:", 1))
    except InvalidDigest as error:
        raise RequestError(400, "invalid digest format") from error
    return digest


def _take_blob(service: Service, digest: Digest) -> int:
    """Take in the request's body, which must have this digest; tells the status."""
    if service.store.path(digest).is_file():
        return 200
    with service.store.ingest() as ingest:
        while data := request.stream.read(_COPY_BYTES):
            ingest.write(data)
        if ingest.digest != digest:
            raise RequestError(400, f'digest mismatch, expected "{digest}", got "{ingest.digest}"')
        ingest.commit(Descriptor("application/octet-stream", digest, ingest.size))
    return 201


def _named(service: Service, name: str, message: str) -> Reference:
    try:
        return service.settings.parse(name)
    except InvalidReference as error:
        raise RequestError(400, message) from error


def _transferred(service: Service, body: TransferRequest) -> Reference:
    """The model of a transfer; a scheme may stand before its name, as in Ollama."""
    scheme, separator, rest = body.wanted.partition("://")
    if separator and scheme == "http" and not body.insecure:
        raise RequestError(500, "insecure protocol http")
    known = separator and scheme in ("http", "https")
    return _named(service, rest if known else body.wanted, "invalid model name")


def _settings_for(service: Service, body: TransferRequest) -> Settings:
    """The settings for one transfer; `insecure` means plain HTTP to Ollama."""
    if not body.insecure:
        return service.settings
    return service.settings.with_flags(RegistrySettings(plain_http=True))


def _pull(service: Service, body: TransferRequest) -> Response:
    reference = _transferred(service, body)
    settings = _settings_for(service, body)

    def work(on_event: OnEvent, say: Status) -> None:
        say("pulling manifest")
        try:
            operations.pull(service.store, reference, settings=settings, on_event=on_event)
        except ModelNotFound as error:
            # Ollama's CLI knows this text and tells its user what to do.
            raise RequestError(500, "pull model manifest: file does not exist") from error
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            say(status)

    return progress_response(work, verb="pulling", stream=body.stream, gone=client_gone())


def _push(service: Service, body: TransferRequest) -> Response:
    if not body.wanted:
        raise RequestError(400, "model is required")
    reference = _transferred(service, body)
    settings = _settings_for(service, body)

    def work(on_event: OnEvent, say: Status) -> None:
        say("retrieving manifest")
        operations.push(service.store, reference, settings=settings, on_event=on_event)
        for status in ("pushing manifest", "success"):
            say(status)

    return progress_response(work, verb="pushing", stream=body.stream, gone=client_gone())


def _create(service: Service, body: CreateRequest) -> Response:
    reference = _named(service, body.wanted, "invalid model name")
    for field, reason in _REFUSED.items():
        if getattr(body, field):
            raise RequestError(400, f'"{field}" is not supported: {reason}', param=field)
    if not body.from_ and body.files == {}:
        raise RequestError(400, "no files provided to convert")
    if not (body.from_ or body.files):
        raise RequestError(400, "neither 'from' or 'files' was specified")
    kind = body.quantize or body.quantization
    if kind:
        file_type(kind)
    ingredients = _ingredients(service, body)

    def work(on_event: OnEvent, say: Status) -> None:
        def fetch(base: Reference) -> None:
            say("pulling manifest")
            operations.pull(service.store, base, settings=service.settings, on_event=on_event)

        say("parsing GGUF")
        try:
            descriptor = assemble(
                service.store,
                ingredients,
                reference,
                fetch=fetch,
                quantizer=quantizer(kind, say) if kind else None,
            )
        except NotGGUF as error:
            raise RequestError(400, "supplied file was not in GGUF format") from error
        for layer in service.library.layers(descriptor.digest):
            say(f"using existing layer {layer}")
        for status in ("writing manifest", "success"):
            say(status)

    return progress_response(work, verb="pulling", stream=body.stream, gone=client_gone())


def _ingredients(service: Service, body: CreateRequest) -> Ingredients:
    """What a create request asks for, checked as far as that needs no file."""
    if body.template:
        OllamaTemplate(body.template)  # raises where Go could not read it
    if body.requires:
        check_requires(body.requires)
    if len(body.adapters) > 1:
        raise RequestError(400, "only one adapter is currently supported", param="adapters")
    licenses = (body.license,) if isinstance(body.license, str) else tuple(body.license)
    settings = {"renderer": body.renderer, "parser": body.parser, "requires": body.requires}
    return Ingredients(
        base=_named(service, body.from_, "invalid model name") if body.from_ else None,
        files=(
            *_stored(service, body.files or {}, None),
            *_stored(service, body.adapters, Role.ADAPTER),
            *_stored(service, body.draft_files, Role.DRAFT),
        ),
        template=body.template or None,
        system=body.system or None,
        licenses=tuple(text for text in licenses if text),
        params=check_values(body.parameters),
        messages=tuple(ChatMessage(item.role, item.content) for item in body.messages),
        settings={name: value for name, value in settings.items() if value},
    )


def _stored(
    service: Service, files: Mapping[str, str], wanted: Role | None
) -> tuple[StoredFile, ...]:
    """Uploaded files by their names; a name is a label here and is never opened."""
    if len(files) > _MAX_FILES:
        raise RequestError(400, f"more than {_MAX_FILES} files")
    found = []
    for name, text in sorted(files.items()):
        if name.startswith("/") or ".." in name.split("/") or "\\" in name:
            raise RequestError(400, "file path must be relative")
        digest = _digest(text)
        try:
            size = service.store.path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobNotFound(str(digest)) from None
        found.append(StoredFile(digest, size, name, wanted))
    return tuple(found)
