"""Where the trust policy is asked: before layers are fetched, at import, and before a load.

The policy file is `$PANNIER_POLICY`, else `policy.toml` in the store's directory; where there is
none, everything is allowed and nothing is recorded. The last verdict on each name is kept in
`verdicts.json` beside it, for `show`; it is a record and never decides anything.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import attachments, strictjson
from ..attachments import Attachment
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import InvalidDigest, InvalidManifest, InvalidPolicy, NotFound, Untrusted
from ..manifest import Index, Manifest
from ..mediatypes import LICENSES
from ..reference import Reference
from ..store.collect import is_manifest
from ..store.files import replace_file
from ..store.store import Store
from ..transfer.content import Source
from ..transfer.events import Noticed, OnEvent, ignore
from ..transfer.verify import read_manifest, read_small
from . import signing
from .policy import MAX_POLICY, Mode, Policy, Verdict, judge, parse

_log = logging.getLogger(__name__)
_VARIABLE = "PANNIER_POLICY"
_FILE = "policy.toml"
_VERDICTS = "verdicts.json"
_MAX_VERDICTS = 16 << 20
_MAX_CONFIG = 4 << 20
_MAX_KNOWN = 1024
# As many as a copy follows.
_MAX_MANIFESTS = 256


@dataclass(frozen=True, slots=True)
class Record:
    """A verdict as it was recorded. `time` is in seconds since 1970."""

    digest: Digest
    mode: str
    allowed: bool
    signers: tuple[str, ...]
    reasons: tuple[str, ...]
    policy: str
    time: float


def load_policy(store: Store) -> Policy | None:
    """The policy that holds for a store, None where there is none.

    Raises:
        InvalidPolicy: where there is one that cannot be read.
    """
    named = os.environ.get(_VARIABLE)
    path = Path(named) if named else store.root / _FILE
    try:
        raw = _bounded(path)
    except FileNotFoundError:
        if named:
            raise InvalidPolicy(path, f"there is no such file, and {_VARIABLE} names it") from None
        return None
    except OSError as error:
        raise InvalidPolicy(path, error.strerror or str(error)) from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidPolicy(path, "it is not UTF-8") from error
    return parse(text, path=str(path), read_key=lambda name: _read_key(path, name))


def check_source(
    store: Store, source: Source, reference: Reference, root: Descriptor, *, on_event: OnEvent
) -> tuple[Attachment, ...]:
    """Ask the policy about a model that is not here yet; only small blobs are fetched.

    Returns:
        Its attachments, found on the way, for the caller to copy after the model. None are looked
        for where there is no policy.

    Raises:
        Untrusted: where the policy refuses it.
        InvalidPolicy, TransferError, IntegrityError: as things are.
    """
    policy = load_policy(store)
    if policy is None:
        return ()
    content = read_manifest(source, root)
    found = attachments.in_source(source, reference, root.digest)
    _decide(store, policy, reference, content, found, source, on_event)
    return found


def check_store(store: Store, reference: Reference, *, on_event: OnEvent = ignore) -> None:
    """Ask the policy about a model in the store, as before a load.

    Raises:
        Untrusted: where the policy refuses it.
        ModelNotFound, InvalidPolicy, IntegrityError: as things are.
    """
    policy = load_policy(store)
    if policy is None:
        return
    entry = store.find(reference)
    content = store.manifest(entry.descriptor.digest)
    found = attachments.in_store(store, entry.descriptor.digest)
    _decide(store, policy, entry.reference, content, found, store, on_event)


class LoadGate:
    """Asks the policy before loads, once for each model under each policy. Thread-safe."""

    def __init__(self, store: Store, *, on_event: OnEvent = ignore) -> None:
        """`on_event` is told what the policy warns of."""
        self._store = store
        self._on_event = on_event
        self._allowed: set[tuple[Digest, str, Digest]] = set()

    def check(self, reference: Reference, digest: Digest) -> None:
        """Let a stored model be loaded, or not.

        Raises:
            Untrusted: where the policy refuses it.
            InvalidPolicy, IntegrityError: as things are.
        """
        policy = load_policy(self._store)
        if policy is None:
            return
        known = (policy.digest, reference.key, digest)
        if known not in self._allowed:
            check_store(self._store, reference, on_event=self._on_event)
            if len(self._allowed) >= _MAX_KNOWN:
                self._allowed.clear()
            self._allowed.add(known)


def check_manifest(
    store: Store,
    source: Source,
    reference: Reference,
    content: Manifest | Index,
    found: Iterable[Attachment],
    *,
    on_event: OnEvent,
) -> None:
    """Ask the policy about a model whose manifest and attachments are at hand, as at import.

    Raises:
        Untrusted: where the policy refuses it.
        InvalidPolicy: where the policy cannot be read.
    """
    policy = load_policy(store)
    if policy is not None:
        _decide(store, policy, reference, content, found, source, on_event)


def judge_store(store: Store, policy: Policy, reference: Reference) -> Verdict:
    """The policy's verdict on a stored model, neither recorded nor enforced.

    Raises:
        ModelNotFound: where the store has no such model.
    """
    entry = store.find(reference)
    content = store.manifest(entry.descriptor.digest)
    found = attachments.in_store(store, entry.descriptor.digest)
    return _verdict(policy, entry.reference, content, found, store)


def recorded(store: Store, reference: Reference) -> Record | None:
    """The last verdict on a name of the store, None where it was never judged."""
    value: Any = _verdicts(store).get(reference.key)
    try:
        return Record(
            Digest.parse(value["digest"]),
            str(value["mode"]),
            value["allowed"] is True,
            tuple(map(str, value["signers"])),
            tuple(map(str, value["reasons"])),
            str(value["policy"]),
            float(value["time"]),
        )
    except (TypeError, KeyError, ValueError, InvalidDigest):
        return None


def record_json(record: Record) -> dict[str, Any]:
    """A recorded verdict as `show --json` prints it."""
    return {
        "allowed": record.allowed,
        "mode": record.mode,
        "signers": list(record.signers),
        "reasons": list(record.reasons),
        "policy": record.policy,
        "time": record.time,
    }


def record_lines(record: Record) -> Iterator[str]:
    """A recorded verdict for people."""
    yield f"{'verdict':<18}{'allowed' if record.allowed else 'refused'} ({record.mode})"
    yield f"{'signed by':<18}{', '.join(record.signers) or 'nobody known'}"
    for reason in record.reasons:
        yield f"{'unmet':<18}{reason}"


def licenses_of(content: Manifest | Index, source: Source) -> tuple[str, ...]:
    """The SPDX expressions that a model declares in its annotations and its config."""
    found = [content.annotations[LICENSES]] if content.annotations.get(LICENSES) else []
    if isinstance(content, Manifest) and content.config.size <= _MAX_CONFIG:
        try:
            raw = read_small(source, content.config)
            config = strictjson.loads(raw, max_size=_MAX_CONFIG)
            found += [str(item) for item in config["descriptor"]["licenses"]]
        except (ValueError, TypeError, KeyError, NotFound):
            pass
    return tuple(dict.fromkeys(found))


def _decide(
    store: Store,
    policy: Policy,
    reference: Reference,
    content: Manifest | Index,
    found: Iterable[Attachment],
    source: Source,
    on_event: OnEvent,
) -> None:
    verdict = _verdict(policy, reference, content, found, source)
    _record(store, policy, reference, content.descriptor.digest, verdict)
    if not verdict.allowed:
        raise Untrusted(reference.familiar, verdict.reasons)
    if verdict.reasons and verdict.mode is Mode.WARN:
        on_event(Noticed(f"trust policy warns of {reference.familiar}: {verdict.reasons[0]}"))


def _verdict(
    policy: Policy,
    reference: Reference,
    content: Manifest | Index,
    found: Iterable[Attachment],
    source: Source,
) -> Verdict:
    digest = content.descriptor.digest
    rule = policy.rule_for(reference)
    read = signing.reader(source)
    evidence = signing.evidence(found, digest, [policy.keys[name] for name in rule.keys], read=read)
    denying = policy.denied or rule.denied
    return judge(
        policy,
        reference,
        digests=_everything(content, source) if denying else {digest},
        evidence=evidence,
        licenses=licenses_of(content, source) if rule.licenses is not None else (),
    )


def _everything(root: Manifest | Index, source: Source) -> set[Digest]:
    """The digests of a manifest and of all that it names, at any depth, as far as it is here."""
    found = {root.descriptor.digest, *(child.digest for child in root.children)}
    waiting = [child for child in root.children if is_manifest(child)]
    for _ in range(_MAX_MANIFESTS):
        if not waiting:
            return found
        with suppress(NotFound):
            children = read_manifest(source, waiting.pop()).children
            waiting += [c for c in children if is_manifest(c) and c.digest not in found]
            found.update(child.digest for child in children)
    raise InvalidManifest(f"more than {_MAX_MANIFESTS} manifests hang together")


def _record(
    store: Store, policy: Policy, reference: Reference, digest: Digest, verdict: Verdict
) -> None:
    entry = {
        "digest": str(digest),
        "mode": str(verdict.mode),
        "allowed": verdict.allowed,
        "signers": list(verdict.signers),
        "reasons": list(verdict.reasons),
        "policy": str(policy.digest),
    }
    try:
        with store.lock():
            verdicts = _verdicts(store)
            old = verdicts.get(reference.key)
            if isinstance(old, dict) and {**old, "time": None} == {**entry, "time": None}:
                return
            verdicts[reference.key] = entry | {"time": time.time()}
            replace_file(store.root / _VERDICTS, json.dumps(verdicts, indent=1).encode("utf-8"))
    except OSError as error:  # a read-only store still loads what is allowed
        _log.debug("cannot record a verdict: %s", error)


def _verdicts(store: Store) -> dict[str, Any]:
    try:
        raw = (store.root / _VERDICTS).read_bytes()
        value = strictjson.loads(raw, max_size=_MAX_VERDICTS)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_POLICY + 1)


def _read_key(policy: Path, name: str) -> bytes:
    path = policy.parent / name
    try:
        return _bounded(path)
    except OSError as error:
        raise ValueError(f"key file {name}: {error.strerror}") from error
