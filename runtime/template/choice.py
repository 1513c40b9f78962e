"""Chooses the template engine of a model, by Ollama's order of precedence. Pure.

A Go template in the artifact was made for the model and goes first, unless the Jinja template in
its weights can do more. A model whose RENDERER this program has not built in is rendered by Jinja,
since models that name one carry a faithful Jinja template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pannier.pkgmgr.errors import InvalidOption

from .ollama import OllamaTemplate


class Engine(StrEnum):
    """What renders the prompts of a model."""

    GO = "go"
    JINJA = "jinja"
    PLAIN = "plain"


class Preference(StrEnum):
    """What the user wants where a model brings both kinds of template."""

    AUTO = "auto"
    GO = "go"
    JINJA = "jinja"


def preference_of(environ: Mapping[str, str]) -> Preference:
    """What PANNIER_TEMPLATE says, else OLLAMA_GO_TEMPLATE.

    Raises:
        InvalidOption: PANNIER_TEMPLATE is none of auto, go and jinja.
    """
    wanted = environ.get("PANNIER_TEMPLATE", "").strip().lower()
    if wanted:
        try:
            return Preference(wanted)
        except ValueError as error:
            raise InvalidOption(
                f"PANNIER_TEMPLATE is {wanted!r}", hint="it is auto, go or jinja"
            ) from error
    has_go = environ.get("OLLAMA_GO_TEMPLATE", "").strip().lower() in ("1", "t", "true")
    return Preference.GO if has_go else Preference.AUTO


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, why it was chosen, and what the user should know; `warning` is mostly empty."""

    engine: Engine
    reason: str
    warning: str = ""


_TOOLS = re.compile(r"\btools?\b|tool_call")
_ROUND_TRIP = re.compile(r"tool_calls.*['\"]tool['\"]|['\"]tool['\"].*tool_calls", re.DOTALL)


def jinja_abilities(source: str) -> frozenset[str]:
    """What a Jinja template makes a model able to do, by the words in it."""
    found = {
        "tools": _TOOLS.search(source) is not None,
        "thinking": "<think>" in source and "</think>" in source,
    }
    return frozenset(name for name, has in found.items() if has)


def go_abilities(template: OllamaTemplate) -> frozenset[str]:
    """What a Go template makes a model able to do, by its tree."""
    found = {
        "tools": "tools" in template.identifiers,
        "thinking": template.thinking_tags is not None,
        "insert": "suffix" in template.identifiers,
    }
    return frozenset(name for name, has in found.items() if has)


def choose(
    go: OllamaTemplate | None,
    jinja: str,
    *,
    renderer: str = "",
    preference: Preference = Preference.AUTO,
) -> Choice:
    """The engine for a model with these templates, either of which may be absent."""
    if renderer and jinja:
        return Choice(
            Engine.JINJA,
            "the model names a renderer",
            f"renderer {renderer!r} is not built in; the Jinja template in the weights is used",
        )
    warning = f"renderer {renderer!r} is not built in" if renderer else ""
    if go is None:
        if jinja:
            return Choice(Engine.JINJA, "the model brings only a Jinja template")
        return Choice(Engine.PLAIN, "the model brings no template", warning)
    if not jinja:
        return Choice(Engine.GO, "the model brings a Go template", warning)
    if preference is not Preference.AUTO:
        return Choice(Engine(preference.value), "the setting says so")
    if jinja_abilities(jinja) > go_abilities(go):
        return Choice(Engine.JINJA, "the Jinja template can do more than the Go template")
    if _goes_round(jinja) and go_abilities(go) == jinja_abilities(jinja) and not _goes_round_go(go):
        return Choice(Engine.JINJA, "the Go template cannot show tool results")
    return Choice(Engine.GO, "the model brings a Go template")


def _goes_round(jinja: str) -> bool:
    return _ROUND_TRIP.search(jinja) is not None


def _goes_round_go(go: OllamaTemplate) -> bool:
    return "toolcalls" in go.identifiers and '"tool"' in go.source
