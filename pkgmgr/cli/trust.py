"""Commands of trust: key, sign, verify-signature, attach, referrers, sbom."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidOption, NotFound, SignatureError, Untrusted
from ..settings import Settings
from ..store.store import Store
from .key import add_access_commands
from .names import Name, parse_name
from .network import with_network
from .options import Json, Quiet
from .output import Output

if TYPE_CHECKING:
    from ..digest import Digest
    from ..reference import Reference

# cosign's variable is read as well, so that scripts work unchanged.
_PASSPHRASES = ("PANNIER_KEY_PASSPHRASE", "COSIGN_PASSWORD")
_EPOCH = "SOURCE_DATE_EPOCH"

KeyFile = Annotated[Path, typer.Option("--key", "-k", metavar="FILE", help="Private key file.")]
PublicKeys = Annotated[
    list[Path] | None,
    typer.Option("--key", "-k", metavar="FILE", help="Public key; all must have signed."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    keys = typer.Typer(help="Keys to sign with, and keys to this node's registry.")
    keys.command("generate")(generate)
    keys.command("show")(show_key)
    add_access_commands(keys)
    app.add_typer(keys, name="key")
    app.command("sign")(with_network(sign))
    app.command("verify-signature")(verify_signature)
    app.command("attach")(attach)
    app.command("referrers")(with_network(referrers))
    app.command("sbom")(sbom)


def generate(
    prefix: Annotated[Path, typer.Argument(metavar="PREFIX", help="Writes PREFIX.key, .pub.")],
    as_json: Json = False,
) -> None:
    """Make an ECDSA P-256 key pair.

    The private half is encrypted in cosign's format.
    """
    from ..trust.operations import generate_key

    made = generate_key(prefix, _new_passphrase())
    Output(as_json=as_json).result(
        {
            "private": str(made.private),
            "public": str(made.public),
            "fingerprint": made.fingerprint,
        },
        lines=[f"{made.private}", f"{made.public}", f"sha256:{made.fingerprint}"],
    )


def show_key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A public or private key.")],
    as_json: Json = False,
) -> None:
    """Print the public half of a key and its fingerprint."""
    from ..trust.operations import read_public_key, read_signing_key

    if b"PRIVATE" in _read(path):
        key = read_signing_key(path, _passphrase).public
    else:
        key = read_public_key(path)
    Output(as_json=as_json).result(
        {"fingerprint": key.fingerprint, "pem": key.pem.decode("ascii")},
        lines=[f"sha256:{key.fingerprint}", key.pem.decode("ascii").rstrip()],
    )


def sign(
    name: Name,
    key: KeyFile,
    settings: Settings,
    identity: Annotated[
        str | None,
        typer.Option("--as", metavar="HOST/REPOSITORY", help="The name that is signed for."),
    ] = None,
    model_signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write an OpenSSF model signature."),
    ] = None,
    push: Annotated[
        bool, typer.Option("--push", help="Push the model with its signatures.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Sign a model offline.

    As cosign's .sig tag and as a sigstore bundle referrer.
    """
    from ..trust import operations as trust
    from ..trust.signing import sign as sign_model

    store, reference = Store.open(), parse_name(name)
    signing_key = trust.read_signing_key(key, _passphrase)
    claim = _identity(identity)
    signed = sign_model(store, reference, signing_key, identity=claim, now=_now)
    if model_signature is not None:
        model_signature.write_bytes(trust.model_signature(store, reference, signing_key))
    output = Output(as_json=as_json, quiet=quiet)
    if push:
        from .. import operations

        settings = replace(settings, login_host=reference.host)
        with output.progress(f"pushing {reference.familiar}") as on_event:
            operations.push(store, reference, settings=settings, on_event=on_event)
    output.result(
        {
            "name": reference.familiar,
            "digest": str(signed.model),
            "key": signing_key.public.fingerprint,
            "tag_form": str(signed.tag_form),
            "bundle_form": str(signed.bundle_form),
        },
        lines=[f"signed {signed.model} with key {signing_key.public.fingerprint[:12]}"],
    )


def verify_signature(
    name: Name,
    keys: PublicKeys = None,
    model_signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check this OpenSSF model signature instead."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a stored model's signatures.

    Against keys, or against the trust policy.
    """
    from ..trust import operations as trust

    store, reference = Store.open(), parse_name(name)
    public = [trust.read_public_key(path) for path in keys or []]
    output = Output(as_json=as_json)
    digest = str(store.find(reference).descriptor.digest)
    if public:
        if model_signature is not None:
            raw = _read(model_signature)
            trust.check_model_signature(store, reference, raw, public)
        else:
            trust.check_signatures(store, reference, public)
        prints = [key.fingerprint for key in public]
        output.result(
            {"name": reference.familiar, "digest": digest, "keys": prints},
            lines=[f"{digest} is signed by {', '.join(item[:12] for item in prints)}"],
        )
        return
    verdict = trust.check_policy(store, reference)
    if verdict is None:
        raise InvalidOption(
            "there is neither a --key nor a trust policy to check against",
            hint=f"pannier verify-signature {name} --key team.pub",
        )
    output.result(
        {
            "name": reference.familiar,
            "digest": digest,
            "mode": str(verdict.mode),
            "allowed": verdict.allowed,
            "signers": list(verdict.signers),
            "reasons": list(verdict.reasons),
        },
        lines=[
            f"{digest}: {verdict.mode}, signed by {', '.join(verdict.signers) or 'nobody known'}",
            *verdict.reasons,
        ],
    )
    if not verdict.allowed:
        refused = Untrusted(reference.familiar, verdict.reasons)
        refused.hint = "the policy is policy.toml in PANNIER_HOME, or what PANNIER_POLICY names"
        raise refused


def attach(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A document; 64 MiB at most.")],
    media_type: Annotated[
        str, typer.Option("--type", "-t", metavar="MEDIATYPE", help="What the document is.")
    ],
    as_json: Json = False,
) -> None:
    """Hang a document on a stored model.

    An attestation or anything else becomes an OCI referrer.
    """
    from ..trust.operations import attach as hang

    reference = parse_name(name)
    digest = hang(Store.open(), reference, _read(file), media_type=media_type, now=_now)
    _attached(reference, digest, as_json=as_json)


def _attached(reference: Reference, digest: Digest, *, as_json: bool) -> None:
    Output(as_json=as_json).result(
        {"name": reference.familiar, "digest": str(digest)}, lines=[str(digest)]
    )


def referrers(
    name: Name,
    settings: Settings,
    remote: Annotated[bool, typer.Option("--remote", help="Ask the registry.")] = False,
    as_json: Json = False,
) -> None:
    """List what hangs on a model, such as signatures."""
    from .. import attachments

    reference = parse_name(name)
    if remote:
        from ..transfer.open import open_registry

        settings = replace(settings, login_host=reference.host)
        with open_registry(reference, settings=settings) as registry:
            digest = registry.resolve(reference).digest
            found = attachments.in_source(registry, reference, digest)
    else:
        store = Store.open()
        found = attachments.in_store(store, store.find(reference).descriptor.digest)
    Output(as_json=as_json).table(
        ("DIGEST", "TYPE", "TAG"),
        ((item.manifest.descriptor.digest.short, item.kind, item.tag or "-") for item in found),
        records=(
            {
                "digest": str(item.manifest.descriptor.digest),
                "type": item.kind,
                "tag": item.tag,
                "size": item.manifest.size,
            }
            for item in found
        ),
    )


def sbom(
    name: Name,
    form: Annotated[str, typer.Option("--format", help="cyclonedx or spdx.")] = "cyclonedx",
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there.")
    ] = None,
    hang: Annotated[bool, typer.Option("--attach", help="Hang it on the model.")] = False,
    as_json: Json = False,
) -> None:
    """Print a model's bill of material.

    As CycloneDX ML-BOM or SPDX. With --attach: hang it on the model, and print its digest.
    """
    from ..trust import operations as trust
    from ..trust.sbom import MEDIA_TYPES, Form
    from .shell import version_number

    if form not in tuple(Form):
        raise InvalidOption(f"{form!r} is no format", hint="use --format cyclonedx or spdx")
    store, reference = Store.open(), parse_name(name)
    raw = trust.make_sbom(store, reference, Form(form), now=_now, version=version_number())
    if out is not None:
        out.write_bytes(raw)
    if hang:
        digest = trust.attach(store, reference, raw, media_type=MEDIA_TYPES[Form(form)], now=_now)
        _attached(reference, digest, as_json=as_json)
    elif out is None:
        sys.stdout.buffer.write(raw)


def _identity(text: str | None) -> str | None:
    if text is None:
        return None
    reference = parse_name(text)
    return f"{reference.host}/{reference.repository}"


def _now() -> float:
    epoch = os.environ.get(_EPOCH, "")
    return float(epoch) if epoch.isdigit() else time.time()


def _passphrase() -> bytes:
    for name in _PASSPHRASES:
        if name in os.environ:
            return os.environb[name.encode("ascii")]
    if not sys.stdin.isatty():
        raise SignatureError("the private key wants a passphrase", hint=f"set {_PASSPHRASES[0]}")
    typed = typer.prompt("Passphrase", hide_input=True, err=True, default="", show_default=False)
    return str(typed).encode("utf-8")


def _new_passphrase() -> bytes:
    for name in _PASSPHRASES:
        if name in os.environ:
            return os.environb[name.encode("ascii")]
    if not sys.stdin.isatty():
        raise InvalidOption(
            "a new key wants a passphrase", hint=f"set {_PASSPHRASES[0]}; it may be empty"
        )
    return str(
        typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    ).encode("utf-8")


def _read(path: Path) -> bytes:
    from ..attachments import MAX_ATTACHMENT_SIZE

    try:
        with path.open("rb") as file:
            return file.read(MAX_ATTACHMENT_SIZE + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
