"""Which template makes a model's prompts, for `pannier show --template --effective`."""

from __future__ import annotations

import os

from pannier.pkgmgr.gguf import Header
from pannier.pkgmgr.modelspec import ModelSpec
from pannier.runtime.prompt import PromptBuilder
from pannier.runtime.template.choice import preference_of


def effective_template(spec: ModelSpec, header: Header) -> dict[str, str]:
    """The engine, why it was chosen, what there is to warn of, and the template's source."""
    builder = PromptBuilder.for_model(spec, header, preference=preference_of(os.environ))
    choice = builder.choice
    return {
        "engine": choice.engine.value,
        "reason": choice.reason,
        "warning": choice.warning,
        "template": builder.source,
    }
