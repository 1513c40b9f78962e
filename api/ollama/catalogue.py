"""Ollama's routes about stored models: tags, show, ps, copy, delete."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from pannier.pkgmgr.errors import InvalidReference, ModelNotFound
from pannier.pkgmgr.modelfile.show import modelfile_of
from pannier.pkgmgr.modelfile.syntax import Command, Modelfile, render
from pannier.pkgmgr.modelspec import ModelSpec, Role
from pannier.pkgmgr.operations import copy_name, remove
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.index import Entry

from ..cards import Card
from ..errors import RequestError
from ..service import Service
from ..streaming import JSON, to_json
from ..wire import read_body
from . import convert
from .schema import CopyRequest, DeleteRequest, ShowRequest


def add_routes(routes: Blueprint, service: Service) -> None:
    """Add the routes of this module."""
    listing = _Listing()

    @routes.get("/api/tags")
    def tags() -> Response:
        return Response(listing.text(service.library.cards()), content_type=JSON)

    @routes.get("/api/ps")
    def ps() -> Response:
        return jsonify(models=_loaded(service))

    @routes.post("/api/show")
    def show() -> Response:
        return _show(service, read_body(ShowRequest))

    @routes.post("/api/copy")
    def copy() -> Response:
        return _copy(service, read_body(CopyRequest))

    @routes.delete("/api/delete")
    def delete() -> Response:
        body = read_body(DeleteRequest)
        reference = _reference(service, body.wanted, f'name "{body.wanted[:200]}" is invalid')
        try:
            remove(service.store, [reference])
        except ModelNotFound as error:
            raise RequestError(404, f"model '{body.wanted}' not found") from error
        return Response(status=200)


class _Listing:
    """The answer of /api/tags: only the lines of names that changed are written again."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[Card, ...], bytes] | None = None
        self._lines: dict[int, tuple[Card, bytes]] = {}

    def text(self, cards: tuple[Card, ...]) -> bytes:
        """The JSON of these models."""
        kept = self._kept
        if kept is None or kept[0] is not cards:
            # Each line holds on to its card, so no other object can have its identity.
            before = self._lines
            lines = {
                id(card): before.get(id(card)) or (card, to_json(_tag(card))) for card in cards
            }
            text = b",".join(line for _, line in lines.values())
            self._lines = lines
            kept = self._kept = cards, b'{"models":[' + text + b"]}"
        return kept[1]


def _reference(service: Service, name: str, invalid: str) -> Reference:
    try:
        return service.settings.parse(name)
    except InvalidReference as error:
        raise RequestError(400, invalid) from error


def _tag(card: Card) -> dict[str, Any]:
    name = card.reference.familiar
    return {
        "name": name,
        "model": name,
        "modified_at": convert.local_time(card.entry.modified),
        "size": card.facts.size,
        "digest": card.digest.hex,
        "details": convert.details_of(card.facts.details),
    }


def _loaded(service: Service) -> list[dict[str, Any]]:
    lines = []
    cards = service.library.by_spec()
    for model in service.runtime.loaded():
        card = cards.get(model.source.digest)
        lines.append(
            convert.loaded_line(
                model,
                name=model.source.name,
                digest=card.digest.hex if card else model.source.digest.hex,
                details=card.facts.details if card else {"family": model.info.architecture},
            )
        )
    return lines


def _copy(service: Service, body: CopyRequest) -> Response:
    source = _reference(service, body.source, f'source "{body.source[:200]}" is invalid')
    target = _reference(
        service, body.destination, f'destination "{body.destination[:200]}" is invalid'
    )
    try:
        copy_name(service.store, source, target)
    except ModelNotFound as error:
        raise RequestError(404, f'model "{body.source}" not found') from error
    return Response(status=200)


def _show(service: Service, body: ShowRequest) -> Response:
    if not body.wanted:
        raise RequestError(400, "model is required")
    reference = _reference(service, body.wanted, "invalid model name")
    try:
        entry, spec = service.library.spec(body.wanted)
    except ModelNotFound as error:
        raise RequestError(404, f"model '{reference.familiar}' not found") from error
    return jsonify(_described(service, entry, spec, body))


def _described(
    service: Service, entry: Entry, spec: ModelSpec, body: ShowRequest
) -> dict[str, Any]:
    header = service.library.header(spec, arrays=body.verbose)
    template = body.template or spec.template or spec.jinja_template
    system = body.system or spec.system
    if template is None and header is not None:
        template = header.text("tokenizer.chat_template")
    answer: dict[str, Any] = {
        "license": "\n".join(spec.licenses),
        "modelfile": _modelfile(service, entry, spec),
        "parameters": convert.parameter_lines({**spec.params, **body.options}),
        "template": template or "",
        "system": system or "",
        "renderer": spec.settings.get("renderer"),
        "parser": spec.settings.get("parser"),
        "requires": spec.settings.get("requires"),
    }
    answer = {key: value for key, value in answer.items() if value}
    answer["details"] = convert.details_of(spec.details)
    if spec.messages:
        answer["messages"] = [
            {"role": message.role, "content": message.content} for message in spec.messages
        ]
    answer["model_info"] = {}
    if header is not None:
        answer["model_info"] = convert.model_info(
            header.metadata, num_parameters=header.parameter_count, verbose=body.verbose
        )
        answer["tensors"] = [
            {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)}
            for tensor in header.tensors
        ]
    projector = service.library.header(spec, role=Role.PROJECTOR, arrays=body.verbose)
    if projector is not None:
        answer["projector_info"] = convert.model_info(
            projector.metadata, num_parameters=projector.parameter_count, verbose=body.verbose
        )
    answer["capabilities"] = list(service.library.find(body.wanted).prompts.capabilities)
    answer["modified_at"] = convert.local_time(entry.modified)
    return answer


def _modelfile(service: Service, entry: Entry, spec: ModelSpec) -> str:
    """The Modelfile that builds the model again, on top of itself: no path leaves the server."""
    own = modelfile_of(spec, service.store.path).commands
    texts = [command for command in own if command.name not in ("from", "adapter", "draft")]
    return render(Modelfile((Command("from", entry.reference.familiar), *texts)))
