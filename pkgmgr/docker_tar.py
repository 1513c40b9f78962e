"""The tar that `docker model load` reads: blobs, then the raw manifest. It is no OCI layout."""

from __future__ import annotations

import io
import tarfile
from typing import IO, cast

from .bundle.export import Writer
from .conversion import Converted, convert_stored
from .operations import model_manifest
from .reference import Reference
from .store.store import Store
from .transfer.events import Finished, Noticed, OnEvent, Started, ignore


def write_docker_tar(
    store: Store, reference: Reference, out: Writer, *, on_event: OnEvent = ignore
) -> Converted:
    """Write a stored model, in Docker Model Runner's dialect. Equal models give equal bytes.

    Args:
        store: holds the model.
        reference: the model.
        out: written front to back, never sought in.
        on_event: told of every blob, and of what the dialect cannot express.

    Raises:
        ModelNotFound: where the store has no such model.
    """
    converted = convert_stored(store, reference, "docker")
    for line in converted.dropped:
        on_event(Noticed(f"as docker it loses {line}"))
    manifest = model_manifest(store, converted.descriptor.digest)
    # It writes and does nothing else.
    stream = cast("IO[bytes]", out)
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for child in (*manifest.layers, manifest.config):
            name = f"blobs/{child.digest.algorithm}/{child.digest.hex}"
            on_event(Started(child))
            with store.path(child.digest).open("rb") as blob:
                archive.addfile(_info(name, child.size), blob)
            on_event(Finished(child))
        archive.addfile(_info("manifest.json", len(manifest.raw)), io.BytesIO(manifest.raw))
    return converted


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info
