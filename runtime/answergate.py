"""What restricts the answer to a request: its constraint's grammar over a model's vocabulary."""

from __future__ import annotations

from .backend import TokenGate
from .constraingate import Constrainer
from .errors import UnsupportedRequest
from .prompttokens import answer_room
from .request import GenerationRequest


def gate_of(
    constrainer: Constrainer, request: GenerationRequest, num_prompt: int, limit: int
) -> TokenGate | None:
    """The gate of an answer to a prompt of so many tokens in a context of `limit`; None for none.

    Raises:
        UnsupportedRequest: its grammar cannot be used.
    """
    if request.constraint is None:
        return None
    try:
        return constrainer.gate(request.constraint, room=answer_room(request, num_prompt, limit))
    except ValueError as error:
        text = f"the answer's grammar cannot be used: {error}"
        raise UnsupportedRequest(text) from error
