"""Signatures and policy on stores and registries."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from support.artifacts import describe, make_artifact, make_index
from support.bundles import NAME, OTHER, model, store_with
from support.registry import docker_registry

from pannier.pkgmgr import attachments, operations
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    InvalidOption,
    InvalidPolicy,
    NotFound,
    SignatureError,
    Untrusted,
)
from pannier.pkgmgr.places import Place, copy_between
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.events import Event, Noticed, Started
from pannier.pkgmgr.trust import gate, simplesigning
from pannier.pkgmgr.trust import operations as trust
from pannier.pkgmgr.trust.keys import SigningKey
from pannier.pkgmgr.trust.signing import MAX_SIGNATURES, Signed
from pannier.pkgmgr.trust.signing import sign as sign_model

ONE, TWO = Reference.parse(NAME), Reference.parse(OTHER)
KEY, SECOND, STRANGER = (SigningKey.generate() for _ in range(3))
ENFORCE = 'version = 1\ndefault = "enforce"\n[keys]\nteam = "team.pub"\n'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_with(tmp_path / "store", {NAME: model(1), OTHER: model(2)})


def sign(
    store: Store, name: Reference = ONE, key: SigningKey = KEY, identity: str | None = None
) -> Signed:
    return sign_model(store, name, key, identity=identity, now=lambda: 1_700_000_000)


def set_policy(store: Store, text: str = ENFORCE) -> None:
    (store.root / "team.pub").write_bytes(KEY.public.pem)
    (store.root / "second.pub").write_bytes(SECOND.public.pem)
    (store.root / "policy.toml").write_text(text)


def settings(tmp_path: Path) -> Settings:
    return Settings.load({"PANNIER_HOME": str(tmp_path / "home")})


def test_both_forms_are_written_as_cosign_reads_them(store: Store) -> None:
    signed = sign(store)
    digest = store.find(ONE).descriptor.digest
    tag = store.find(ONE.with_tag(f"sha256-{digest.hex}.sig"))
    assert tag.descriptor.digest == signed.tag_form
    bundle = json.loads(store.path(signed.bundle_form).read_bytes())
    assert bundle["subject"]["digest"] == str(digest)
    assert bundle["artifactType"] == bundle["layers"][0]["mediaType"]
    assert bundle["config"]["digest"].startswith("sha256:44136fa3")
    assert bundle["annotations"]["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"


def test_every_key_must_have_signed(store: Store) -> None:
    sign(store)
    trust.check_signatures(store, ONE, [KEY.public])
    with pytest.raises(SignatureError, match="not signed by"):
        trust.check_signatures(store, ONE, [KEY.public, SECOND.public])
    sign(store, key=SECOND)
    trust.check_signatures(store, ONE, [KEY.public, SECOND.public])
    with pytest.raises(SignatureError):
        trust.check_signatures(store, TWO, [KEY.public])


def test_signing_again_replaces_the_keys_own_layer_only(store: Store) -> None:
    for key in (KEY, SECOND, KEY, KEY):
        signed = sign(store, key=key)
    manifest = store.manifest(signed.tag_form)
    assert len(manifest.children) - 1 == len({item.digest for item in manifest.children}) - 1
    assert len(json.loads(manifest.raw)["layers"]) == 2


def test_signatures_are_no_models(store: Store) -> None:
    sign(store)
    assert {item.reference for item in operations.list_models(store)} == {ONE, TWO}


def test_without_a_policy_everything_loads(store: Store) -> None:
    gate.check_store(store, ONE)
    assert gate.recorded(store, ONE) is None


def test_a_load_is_refused_until_the_model_is_signed(store: Store) -> None:
    set_policy(store)
    with pytest.raises(Untrusted, match="not signed by team"):
        gate.check_store(store, ONE)
    record = gate.recorded(store, ONE)
    assert record is not None
    assert (record.allowed, record.mode) == (False, "enforce")
    sign(store)
    gate.check_store(store, ONE)
    record = gate.recorded(store, ONE)
    assert record is not None
    assert (record.allowed, record.signers) == (True, ("team",))


def test_a_warning_is_said_and_does_not_stop(store: Store) -> None:
    set_policy(store, ENFORCE.replace("enforce", "warn"))
    events: list[Event] = []
    gate.check_store(store, ONE, on_event=events.append)
    assert [type(event) for event in events] == [Noticed]


def test_a_policy_that_cannot_be_read_allows_nothing(store: Store) -> None:
    for text in ("", "version = 1", ENFORCE + "x = 1", "\x00"):
        set_policy(store, text)
        with pytest.raises(InvalidPolicy):
            gate.check_store(store, ONE)
    set_policy(store, ENFORCE.replace("team.pub", "absent.pub"))
    with pytest.raises(InvalidPolicy, match=r"absent\.pub"):
        gate.check_store(store, ONE)


def test_a_named_policy_that_is_absent_allows_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANNIER_POLICY", str(tmp_path / "absent.toml"))
    with pytest.raises(InvalidPolicy):
        gate.check_store(store, ONE)


def test_a_changed_payload_is_no_signature(store: Store) -> None:
    """The signature of one model, hung on another one."""
    set_policy(store)
    sign(store, ONE)
    digest = store.find(TWO).descriptor.digest
    for found in attachments.in_store(store, store.find(ONE).descriptor.digest):
        if found.tag:
            tag = simplesigning.tag_of(digest)
            store.tag(found.manifest.descriptor, TWO.with_tag(tag))
    with pytest.raises(Untrusted):
        gate.check_store(store, TWO)


def test_malformed_signatures_neither_count_nor_break(store: Store) -> None:
    set_policy(store)
    sign(store, key=STRANGER)
    garbage = make_artifact(
        b"{}",
        b"not json",
        artifactType="application/vnd.dev.sigstore.bundle.v0.3+json",
        subject=store.find(ONE).descriptor.to_json(),
    )
    garbage.push_to(store)
    name = ONE.with_tag(None).with_digest(garbage.descriptor.digest)
    store.tag(garbage.descriptor, name)
    with pytest.raises(Untrusted):
        gate.check_store(store, ONE)
    sign(store)
    gate.check_store(store, ONE)


def test_a_flood_of_signatures_is_not_looked_at_beyond_a_bound(store: Store) -> None:
    digest = store.find(ONE).descriptor.digest
    layers = []
    for number in range(MAX_SIGNATURES + 20):
        payload = simplesigning.payload(f"a.example/{number}", digest)
        store.push(describe(payload), io.BytesIO(payload))
        layers.append(simplesigning.layer(payload, STRANGER))
    raw, config = simplesigning.image(tuple(layers))
    for data in (config, raw):
        store.push(describe(data), io.BytesIO(data))
    kind = "application/vnd.oci.image.manifest.v1+json"
    store.tag(describe(raw, kind), ONE.with_tag(simplesigning.tag_of(digest)))
    with pytest.raises(SignatureError):
        trust.check_signatures(store, ONE, [KEY.public])


@pytest.mark.registry
def test_a_pull_asks_the_policy_before_any_layer(store: Store, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        name = Reference.parse(f"{registry.host}/team/m:1")
        operations.copy_name(store, ONE, name)
        operations.push(store, name, settings=settings(tmp_path))
        target = Store.open(tmp_path / "target")
        set_policy(target)
        events: list[Event] = []
        with pytest.raises(Untrusted):
            operations.pull(target, name, settings=settings(tmp_path), on_event=events.append)
        assert not [event for event in events if isinstance(event, Started)]
        assert list((target.root / "blobs" / "sha256").iterdir()) == []
        sign(store, name)
        operations.push(store, name, settings=settings(tmp_path))
        operations.pull(target, name, settings=settings(tmp_path))
        gate.check_store(target, name)
    kinds = {item.tag is None for item in attachments.in_store(target, model(1).descriptor.digest)}
    assert kinds == {True, False}


@pytest.mark.registry
def test_a_mirror_verifies_under_the_name_that_was_signed(store: Store, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        name = Reference.parse(f"{registry.host}/hub/m:1")
        operations.copy_name(store, ONE, name)
        sign(store, name, identity="docker.io/org/m")
        operations.push(store, name, settings=settings(tmp_path))
        rule = f'[[rule]]\nmatch = ["{registry.host}/hub/*"]\nmode = "enforce"\nkeys = ["team"]\n'
        target = Store.open(tmp_path / "target")
        set_policy(target, ENFORCE + rule + 'signed-as = "docker.io/other/*"\n')
        with pytest.raises(Untrusted, match="signed as docker"):
            operations.pull(target, name, settings=settings(tmp_path))
        set_policy(target, ENFORCE + rule + 'signed-as = "docker.io/org/*"\n')
        operations.pull(target, name, settings=settings(tmp_path))


def test_licences_are_read_from_the_config(tmp_path: Path) -> None:
    config = json.dumps({"descriptor": {"licenses": ["Apache-2.0"]}}).encode()
    artifact = make_artifact(b"weights", config=config)
    store = store_with(tmp_path / "s", {NAME: artifact, OTHER: make_artifact(b"other")})
    rule = (
        'version=1\ndefault="off"\n[[rule]]\nmatch=["**"]\nmode="enforce"\nlicenses=["apache-2.0"]'
    )
    set_policy(store, rule)
    gate.check_store(store, ONE)
    with pytest.raises(Untrusted, match="declares no licence"):
        gate.check_store(store, TWO)


def test_a_key_pair_is_written_for_its_owner_and_never_over_another(tmp_path: Path) -> None:
    made = trust.generate_key(tmp_path / "team", b"secret")
    assert os.stat(made.private).st_mode & 0o777 == 0o600
    key = trust.read_signing_key(made.private, lambda: b"secret")
    assert key.public == trust.read_public_key(made.public)
    with pytest.raises(InvalidOption):
        trust.generate_key(tmp_path / "team", b"secret")
    with pytest.raises(NotFound):
        trust.read_public_key(tmp_path / "absent.pub")


def test_an_openssf_signature_is_about_exactly_this_model(store: Store) -> None:
    raw = trust.model_signature(store, ONE, KEY)
    trust.check_model_signature(store, ONE, raw, [SECOND.public, KEY.public])
    with pytest.raises(SignatureError, match="other files"):
        trust.check_model_signature(store, TWO, raw, [KEY.public])
    with pytest.raises(SignatureError):
        trust.check_model_signature(store, ONE, raw, [SECOND.public])


def test_any_document_can_hang_on_a_model(store: Store) -> None:
    digest = trust.attach(store, ONE, b"{}", media_type="application/spdx+json", now=lambda: 0)
    (found,) = attachments.in_store(store, store.find(ONE).descriptor.digest)
    assert found.manifest.descriptor.digest == digest
    assert found.kind == "application/spdx+json"
    assert found.manifest.layers[0].digest == Digest.of(b"{}")


def test_a_denied_layer_is_found_inside_an_index(store: Store) -> None:
    bad = make_artifact(b"recalled weights")
    bad.push_to(store)
    descriptor, raw = make_index(make_artifact(b"good"), bad)
    make_artifact(b"good").push_to(store)
    store.push(descriptor, io.BytesIO(raw))
    both = ONE.with_tag("both")
    store.tag(descriptor, both)
    set_policy(store, 'version = 1\ndefault = "off"\n')
    gate.check_store(store, both)
    denied = Digest.of(b"recalled weights")
    set_policy(store, f'version = 1\ndefault = "off"\ndeny-digests = ["{denied}"]\n')
    with pytest.raises(Untrusted, match=f"{denied} is denied"):
        gate.check_store(store, both)


def test_a_load_is_judged_once_under_each_policy(store: Store) -> None:
    loads = gate.LoadGate(store)
    digest = store.find(ONE).descriptor.digest
    loads.check(ONE, digest)
    set_policy(store)
    with pytest.raises(Untrusted):
        loads.check(ONE, digest)
    sign(store)
    loads.check(ONE, digest)
    for found in attachments.in_store(store, digest):
        store.untag(found.reference_in(ONE))
    loads.check(ONE, digest)
    set_policy(
        store, ENFORCE + f'[[rule]]\nmatch = ["**"]\nmode = "off"\ndeny-digests = ["{digest}"]'
    )
    with pytest.raises(Untrusted, match="denied"):
        loads.check(ONE, digest)


@pytest.mark.registry
def test_signatures_go_along_from_registry_to_registry(store: Store, tmp_path: Path) -> None:
    configuration = settings(tmp_path)
    with (
        docker_registry(tmp_path / "one") as one,
        docker_registry(tmp_path / "two") as two,
    ):
        name = Reference.parse(f"{one.host}/org/m:1")
        mirrored = Reference.parse(f"{two.host}/hub/m:1")
        operations.copy_name(store, ONE, name)
        sign(store, name)
        operations.push(store, name, settings=configuration)
        copy_between(Place(name), Place(mirrored), settings=configuration)
        target = Store.open(tmp_path / "target")
        rule = f'[[rule]]\nmatch = ["{two.host}/hub/*"]\nmode = "enforce"\nkeys = ["team"]\n'
        set_policy(target, ENFORCE + rule + f'signed-as = "{one.host}/org/*"\n')
        operations.pull(target, mirrored, settings=configuration)
        gate.check_store(target, mirrored)
