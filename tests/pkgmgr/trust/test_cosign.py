"""What the real cosign wrote: its keys are opened, its signatures count (tests/golden/cosign)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pannier.pkgmgr import attachments
from pannier.pkgmgr.bundle.load import load
from pannier.pkgmgr.errors import InvalidKey, SignatureError, Untrusted
from pannier.pkgmgr.mediatypes import SIGSTORE_BUNDLE
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.trust import operations as trust
from pannier.pkgmgr.trust.keys import SigningKey

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cosign"
NAME = Reference.parse("localhost:5999/team/golden:1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.mark.parametrize("version", ["cosign2", "cosign3"])
def test_keys_of_cosign_are_opened(version: str) -> None:
    path = GOLDEN / f"{version}.key"
    key = trust.read_signing_key(path, lambda: b"secret")
    assert key.public == trust.read_public_key(GOLDEN / f"{version}.pub")
    key.public.verify(key.sign(b"message"), b"message")
    with pytest.raises(InvalidKey, match="wrong passphrase"):
        trust.read_signing_key(path, lambda: b"guess")


@pytest.mark.parametrize("version", ["cosign2", "cosign3"])
def test_signatures_of_cosign_count(store: Store, version: str) -> None:
    load(store, GOLDEN / "signed.tar")
    key = trust.read_public_key(GOLDEN / f"{version}.pub")
    assert trust.check_signatures(store, NAME, [key]) == (key,)
    with pytest.raises(SignatureError):
        trust.check_signatures(store, NAME, [key, SigningKey.generate().public])


def test_an_attestation_of_cosign_is_carried_and_no_signature(store: Store) -> None:
    load(store, GOLDEN / "signed.tar")
    digest = store.find(NAME).descriptor.digest
    found = attachments.in_store(store, digest)
    assert [item.tag and item.tag[-4:] for item in found] == [None, ".att", ".sig"]
    assert found[0].kind == SIGSTORE_BUNDLE


@pytest.mark.parametrize("threshold", [1, 2])
def test_a_policy_counts_both_forms_of_cosign(store: Store, threshold: int) -> None:
    for version in ("cosign2", "cosign3"):
        (store.root / f"{version}.pub").write_bytes((GOLDEN / f"{version}.pub").read_bytes())
    (store.root / "policy.toml").write_text(
        'version = 1\ndefault = "enforce"\n[keys]\na = "cosign2.pub"\nb = "cosign3.pub"\n'
        f'[[rule]]\nmatch = ["localhost:5999/*/*"]\nmode = "enforce"\n'
        f'keys = ["a", "b"]\nthreshold = {threshold}\n'
    )
    load(store, GOLDEN / "signed.tar").require_complete()
    verdict = trust.check_policy(store, NAME)
    assert verdict is not None
    assert verdict.signers == ("a", "b")


def test_a_signature_of_cosign_for_another_name_does_not_count(store: Store) -> None:
    (store.root / "a.pub").write_bytes((GOLDEN / "cosign2.pub").read_bytes())
    (store.root / "policy.toml").write_text(
        'version = 1\ndefault = "enforce"\n[keys]\na = "a.pub"\n'
        '[[rule]]\nmatch = ["localhost:5999/team/*"]\n'
        'mode = "enforce"\nkeys = ["a"]\nsigned-as = "registry.corp/team/*"\n'
    )
    with pytest.raises(Untrusted, match="signed as localhost:5999/team/golden, not"):
        load(store, GOLDEN / "signed.tar")
