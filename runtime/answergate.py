"""What restricts the answer to a request: its constraint's grammar over a model's vocabulary."""

from __future__ import annotations

from .backend import TokenGate
from .constrainer import Constrainer
from .constraingate import Gate
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
        room = answer_room(request, num_prompt, limit)
        return Gate(request.constraint, constrainer, room=room)
    except ValueError as error:
        text = f"the answer's grammar cannot be used: {error}"
        raise UnsupportedRequest(text) from error
