"""The trust policy: which models may be here, by whose signature. Pure: text in, decision out.

A TOML file. Rules are tried in order and the first whose `match` fits a model's host and
repository decides; `default` decides for the rest. Whatever the file says that is not understood
voids the whole file: a policy that is not read allows nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..digest import Digest
from ..errors import InvalidDigest, InvalidKey, InvalidPolicy
from ..reference import Reference
from .keys import PublicKey

MAX_POLICY = 1 << 20
_TOP = frozenset({"version", "default", "keys", "rule", "deny-digests"})
_RULE = frozenset({"match", "mode", "keys", "threshold", "signed-as", "licenses", "deny-digests"})
_GLOB = re.compile(r"[A-Za-z0-9._:/*\[\]-]+")
# Matching time grows with the name's length to this power.
_MAX_WILD = 3
_WILD = re.compile(r"\*\*|\*")


class Mode(StrEnum):
    """What follows from an unmet condition: nothing, a warning, or a refusal."""

    OFF = "off"
    WARN = "warn"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        match: globs over `host/repository`; `*` stays within a component, `**` does not.
        keys: names of the keys whose signatures count.
        threshold: how many of the keys must have signed; 0 where no signature is asked for.
        signed_as: the identity that signatures must carry, its wildcards filled in with what
            those of `match` stood for; None for the model's own name.
        licenses: lower-case SPDX expressions that are allowed; None allows all.
        denied: digests of manifests or blobs that are refused whatever the mode.
    """

    match: tuple[str, ...]
    mode: Mode
    keys: tuple[str, ...] = ()
    threshold: int = 0
    signed_as: str | None = None
    licenses: frozenset[str] | None = None
    denied: frozenset[Digest] = frozenset()


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy. `digest` is of its text, so that verdicts can name what they rest on."""

    default: Mode
    rules: tuple[Rule, ...]
    keys: Mapping[str, PublicKey]
    denied: frozenset[Digest]
    digest: Digest

    def rule_for(self, reference: Reference) -> Rule:
        """The rule that decides about a name; if none fits, one that wants any key's signature."""
        name = _name(reference)
        for rule in self.rules:
            if any(_regex(glob).fullmatch(name) for glob in rule.match):
                return rule
        return Rule(("**",), self.default, keys=tuple(sorted(self.keys)), threshold=1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signature whose cryptography was checked.

    Attributes:
        key: whose it is.
        identity: the `host/repository` that it was made for; None where its form carries none.
    """

    key: PublicKey
    identity: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy says of a model.

    Attributes:
        signers: the names of the keys whose signatures count.
        reasons: the unmet conditions, none where the model is as it should be.
    """

    mode: Mode
    allowed: bool
    signers: tuple[str, ...]
    reasons: tuple[str, ...]


def parse(text: str, *, path: str, read_key: Callable[[str], bytes]) -> Policy:
    """Read a policy.

    Args:
        text: the TOML.
        path: of the file, for messages.
        read_key: gives the bytes of a key file that the policy names.

    Raises:
        InvalidPolicy: for anything that is not understood, entirely.
    """
    if len(text) > MAX_POLICY:
        raise InvalidPolicy(path, f"longer than {MAX_POLICY} bytes")
    try:
        document = tomllib.loads(text)
        _only(document, _TOP, "the policy")
        if str(document.get("version")) != "1":
            raise ValueError("version is not 1")
        keys = _keys(document.get("keys", {}), read_key)
        rules = tuple(_rule(item, keys) for item in _tables(document.get("rule", [])))
        return Policy(
            _mode(document.get("default"), "default"),
            rules,
            keys,
            _digests(document.get("deny-digests", [])),
            Digest.of(text.encode("utf-8")),
        )
    except (ValueError, RecursionError) as error:
        raise InvalidPolicy(path, str(error)) from error
    except (InvalidKey, InvalidDigest) as error:
        raise InvalidPolicy(path, error.message) from error


def judge(
    policy: Policy,
    reference: Reference,
    *,
    digests: Collection[Digest],
    evidence: Sequence[Evidence],
    licenses: Collection[str],
) -> Verdict:
    """Decide about a model.

    Args:
        policy: the policy.
        reference: the name that it is wanted under.
        digests: of the manifest and of everything that it names.
        evidence: its checked signatures; those of unknown keys count for nothing.
        licenses: the SPDX expressions that it declares.
    """
    rule = policy.rule_for(reference)
    denied = [item for item in sorted(digests) if item in policy.denied or item in rule.denied]
    if denied:
        return Verdict(rule.mode, False, (), tuple(f"{item} is denied" for item in denied))
    if rule.mode is Mode.OFF:
        return Verdict(rule.mode, True, (), ())
    names = {policy.keys[name]: name for name in rule.keys}
    identity = _expected_identity(rule, reference)
    good = [item for item in evidence if _is_about(item, identity, rule)]
    signers = tuple(sorted({names[item.key] for item in good if item.key in names}))
    reasons = _unmet(rule, identity, evidence, signers, names, licenses)
    return Verdict(rule.mode, not reasons or rule.mode is Mode.WARN, signers, tuple(reasons))


def _unmet(
    rule: Rule,
    identity: str,
    evidence: Sequence[Evidence],
    signers: Sequence[str],
    names: Mapping[PublicKey, str],
    licenses: Collection[str],
) -> list[str]:
    reasons = []
    if len(signers) < rule.threshold:
        who = ", ".join(rule.keys) or "any key, and the policy names none"
        reasons.append(
            f"signed by {len(signers)} of the {rule.threshold} wanted keys among {who}"
            if evidence
            else f"not signed by {who}"
        )
        others = {item.identity for item in evidence if item.key in names and item.identity}
        if others - {identity}:
            reasons.append(f"signed as {', '.join(sorted(others - {identity}))}, not {identity}")
    if rule.licenses is not None:
        declared = {item.lower() for item in licenses}
        if not declared:
            reasons.append("it declares no licence")
        elif declared - rule.licenses:
            reasons.append(f"licence {', '.join(sorted(declared - rule.licenses))} is not allowed")
    return reasons


def _is_about(item: Evidence, identity: str, rule: Rule) -> bool:
    if item.identity is None:
        # Such a signature binds the digest alone, which is not enough where a name is asked for.
        return rule.signed_as is None
    return item.identity.lower() == identity


def _expected_identity(rule: Rule, reference: Reference) -> str:
    name = _name(reference)
    if rule.signed_as is None:
        return name
    for glob in rule.match:
        match = _regex(glob).fullmatch(name)
        if match:
            parts = _WILD.split(rule.signed_as)
            return "".join(a + b for a, b in zip(parts, (*match.groups(), ""), strict=True)).lower()
    return rule.signed_as.lower()


def _name(reference: Reference) -> str:
    return f"{reference.host}/{reference.repository}".lower()


def _regex(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", glob.lower())
    kinds = {"**": "(.*)", "*": "([^/]*)"}
    return re.compile("".join(kinds.get(part) or re.escape(part) for part in parts))


def _rule(item: Mapping[str, Any], keys: Mapping[str, PublicKey]) -> Rule:
    _only(item, _RULE, "a rule")
    globs = _strings(item.get("match"), "match")
    if not globs or not all(_is_glob(glob) for glob in globs):
        raise ValueError(f"a rule's match is no list of globs with at most {_MAX_WILD} wildcards")
    names = _strings(item.get("keys", []), "keys")
    unknown = set(names) - set(keys)
    twice = {name for name in names if names.count(name) > 1}
    if unknown or twice:
        which = ", ".join(sorted(unknown | twice))
        raise ValueError(f"a rule names a key twice, or one that is not there: {which}")
    threshold = item.get("threshold", 1 if names else 0)
    if not isinstance(threshold, int) or isinstance(threshold, bool):
        raise ValueError("threshold is not a number")
    if not min(1, len(names)) <= threshold <= len(names):
        raise ValueError(f"threshold {threshold} does not fit {len(names)} keys")
    allowed = item.get("licenses")
    return Rule(
        globs,
        _mode(item.get("mode"), "a rule's mode"),
        names,
        threshold,
        _signed_as(item.get("signed-as"), globs),
        None if allowed is None else frozenset(x.lower() for x in _strings(allowed, "licenses")),
        _digests(item.get("deny-digests", [])),
    )


def _signed_as(value: object, globs: Sequence[str]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _is_glob(value):
        raise ValueError("signed-as is not a name")
    wilds = _WILD.findall(value)
    if any(_WILD.findall(glob) != wilds for glob in globs):
        raise ValueError("signed-as and match must have the same wildcards in the same order")
    return value


def _is_glob(text: str) -> bool:
    return bool(_GLOB.fullmatch(text)) and len(_WILD.findall(text)) <= _MAX_WILD


def _keys(table: object, read_key: Callable[[str], bytes]) -> dict[str, PublicKey]:
    if not isinstance(table, dict):
        raise ValueError("keys is not a table")
    keys = {}
    for name, value in table.items():
        if not isinstance(value, str):
            raise ValueError(f"key {name!r} is neither a file nor a PEM text")
        pem = value.encode("utf-8") if "-----BEGIN" in value else read_key(value)
        keys[name] = PublicKey.from_pem(pem, name=f"key {name!r}")
    if len(set(keys.values())) != len(keys):
        # Otherwise one signer could meet a threshold of two.
        raise ValueError("two names stand for the same key")
    return keys


def _mode(value: object, name: str) -> Mode:
    if value is None:
        raise ValueError(f"{name} is absent; it is off, warn or enforce")
    if not isinstance(value, str) or value not in tuple(Mode):
        raise ValueError(f"{name} is {str(value)[:20]!r}, not one of off, warn, enforce")
    return Mode(value)


def _tables(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("rule is not a list of tables; write [[rule]]")
    return value


def _digests(value: object) -> frozenset[Digest]:
    return frozenset(Digest.parse(item) for item in _strings(value, "deny-digests"))


def _strings(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} is not a list of texts")
    return tuple(value)


def _only(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"{where} has unknown entries: {', '.join(unknown)[:200]}")
