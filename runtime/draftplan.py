"""Whether a model is loaded with its draft model, and what that takes.

A draft model is an extra: it gets what is left beside its model, on the same GPUs where all of it
fits there, and stays on disk where nothing is.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from pannier.pkgmgr.gguf import Header
from pannier.pkgmgr.vocabularies import why_no_draft

from .machine import Room
from .memory import MemoryPlan, plan_memory
from .request import LoadOptions
from .residents import Resident, read_checked
from .speculate import MAX_STREAMS

_LOG = logging.getLogger(__name__)


def with_draft(plan: MemoryPlan, resident: Resident, target: Header, room: Room) -> MemoryPlan:
    """A model's plan, with its draft model beside it where it has one that fits.

    Raises:
        InvalidGGUF: a file of the draft model is none, or breaks a bound.
        LoadError: a file is not there.
    """
    source, options = resident.source, resident.options
    if not source.files.draft or options.draft_num_predict == 0:
        return plan
    headers = read_checked(source.files.draft, f"the draft model file{{}} of {source.name}")
    reason = why_no_draft(target, headers[0])
    if reason is None:
        beside = plan_draft(headers, options, plan, room)
        if beside is not None:
            return replace(plan, draft=beside)
        reason = "there is no room for it"
    _LOG.warning("%s goes without its draft model: %s", source.name, reason)
    return plan


def plan_draft(
    headers: list[Header], options: LoadOptions, plan: MemoryPlan, room: Room
) -> MemoryPlan | None:
    """The plan of a draft model in the room that its model's plan leaves; None where none is."""
    left = replace(
        room,
        free=room.free - plan.in_main_memory,
        gpus=tuple(
            replace(gpu, free=gpu.free - used)
            for gpu, used in zip(room.gpus, plan.placement.on_gpus, strict=False)
        )
        if plan.placement.gpu_layers
        else (),
    )
    wanted = replace(
        options, num_ctx=plan.num_ctx, num_parallel=MAX_STREAMS, num_gpu=-1, tensor_split=()
    )
    for gpus in (left.gpus, ()):
        found = plan_memory(headers, wanted, free=left.free, gpus=gpus, reserve=left.reserve)
        if found.is_whole and left.holds(found):
            return found
    return None
