"""Drawing tokens: a chain of the library's samplers per sequence, in Ollama's order.

Everything runs in C over one row of logits; Python only builds the chain.
"""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Iterable
from typing import Any

from .backend import TokenGate
from .model import Model
from .request import TOP_P_PREFILTER, SamplingParams

# The library's word for "draw a seed yourself"; never handed over, so that seeds are ours.
_SEED_MASK = 0xFFFF_FFFF
# Where repetition starts anew for the DRY penalty (llama.cpp's defaults).
_DRY_BREAKERS = (b"\n", b":", b'"', b"*")
# Tokens that mirostat 1 estimates from (llama.cpp's default).
_MIROSTAT_M = 100
# Draws that a gate may refuse, one after the other: for the grammar, for the room that is left, and
# before a trigger for each token that would begin a call wrongly.
_MAX_REDRAWS = 6


class Sampler:
    """One sequence's chain. Used by one thread at a time; `close` frees it."""

    def __init__(
        self,
        model: Model,
        params: SamplingParams,
        *,
        context_length: int,
        history: Iterable[int] = (),
        prefilter: float = TOP_P_PREFILTER,
        gate: TokenGate | None = None,
        intact: bool = False,
    ) -> None:
        """Build the chain; `history` are the prompt's tokens, which penalties look back at.

        Where `intact` a row is after a draw as it was before, whatever `gate` ruled out.
        """
        self._model = model
        self._gate = gate
        self._intact = intact
        api = model.native.api
        self._sample = api.llama_sampler_sample
        self.seed = params.seed & _SEED_MASK if params.seed >= 0 else secrets.randbits(32)
        chain_params = api.llama_sampler_chain_default_params()
        chain_params.no_perf = True
        self.handle: Any = api.llama_sampler_chain_init(chain_params)
        for sampler in self._parts(params, context_length, prefilter):
            api.llama_sampler_chain_add(self.handle, sampler)
        self._looks_back = _looks_back(params)
        if self._looks_back:
            accept = model.native.quick.llama_sampler_accept
            for token in list(history)[-context_length:]:
                accept(self.handle, token)

    def sample(self, context: Any, row: int) -> int:
        """Draw from the logits of output `row` and remember the token."""
        gate = self._gate
        if gate is None:
            token: int = self._sample(self.handle, context, row)
            return token
        if not self._intact:
            return self._draw(context, row, gate)
        logits = self._logits(context, row)
        before = logits.copy()
        token = self._draw(context, row, gate)
        logits[:] = before
        return token

    def _draw(self, context: Any, row: int, gate: TokenGate) -> int:
        """Draw what a gate lets pass."""
        # A mask of the whole vocabulary costs more than a second draw, which is seldom needed; but
        # penalties would remember what was drawn in vain.
        if self._looks_back or gate.wants_mask:
            gate.restrict(self._logits(context, row))
        token: int = self._sample(self.handle, context, row)
        for _ in range(_MAX_REDRAWS):
            if gate.allows(token):
                break
            gate.restrict(self._logits(context, row))
            token = self._sample(self.handle, context, row)
        gate.accept(token)
        return token

    def _logits(self, context: Any, row: int) -> Any:
        """The row as an array over the library's own memory."""
        import numpy

        pointer = self._model.native.quick.llama_get_logits_ith(context, row)
        return numpy.ctypeslib.as_array(pointer, shape=(self._model.vocabulary_size,))

    def close(self) -> None:
        """Free the chain. Idempotent."""
        if self.handle:
            self._model.native.quick.llama_sampler_free(self.handle)
            self.handle = None

    def _parts(
        self, params: SamplingParams, context_length: int, prefilter: float
    ) -> Iterable[Any]:
        api = self._model.native.api
        size = self._model.vocabulary_size
        if params.logit_bias:
            yield api.llama_sampler_init_logit_bias(
                size, len(params.logit_bias), _biases(api, params)
            )
        if _has_penalties(params):
            last_n = _looked_back(params.repeat_last_n, context_length)
            yield api.llama_sampler_init_penalties(
                size,
                last_n,
                params.repeat_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            )
        if params.dry_multiplier > 0 and params.dry_penalty_last_n:
            yield self._dry(params, context_length)
        if params.temperature <= 0:
            yield api.llama_sampler_init_greedy()
            return
        if params.mirostat:
            yield api.llama_sampler_init_temp(params.temperature)
            yield self._mirostat(params)
            return
        yield from self._truncation(params, prefilter)
        if params.xtc_probability > 0:
            yield api.llama_sampler_init_xtc(
                params.xtc_probability, params.xtc_threshold, 1, self.seed
            )
        yield api.llama_sampler_init_temp(params.temperature)
        yield api.llama_sampler_init_dist(self.seed)

    def _dry(self, params: SamplingParams, context_length: int) -> Any:
        last_n = _looked_back(params.dry_penalty_last_n, context_length)
        breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
        return self._model.native.api.llama_sampler_init_dry(
            self._model.vocab,
            params.dry_multiplier,
            params.dry_base,
            params.dry_allowed_length,
            last_n,
            breakers,
            len(_DRY_BREAKERS),
        )

    def _mirostat(self, params: SamplingParams) -> Any:
        api, tau, eta = self._model.native.api, params.mirostat_tau, params.mirostat_eta
        if params.mirostat == 1:
            size = self._model.vocabulary_size
            return api.llama_sampler_init_mirostat(size, self.seed, tau, eta, _MIROSTAT_M)
        return api.llama_sampler_init_mirostat_v2(self.seed, tau, eta)

    def _truncation(self, params: SamplingParams, prefilter: float) -> Iterable[Any]:
        api = self._model.native.api
        if params.top_n_sigma > 0:
            yield api.llama_sampler_init_top_n_sigma(params.top_n_sigma)
        if params.top_k > 0:
            yield api.llama_sampler_init_top_k(params.top_k)
        elif (params.top_p < 1 or params.typical_p < 1) and prefilter > params.min_p:
            yield api.llama_sampler_init_min_p(prefilter, 1)
        if params.typical_p < 1:
            yield api.llama_sampler_init_typical(params.typical_p, 1)
        if params.top_p < 1:
            yield api.llama_sampler_init_top_p(params.top_p, 1)
        if params.min_p > 0:
            yield api.llama_sampler_init_min_p(params.min_p, 1)


def _looked_back(last_n: int, context_length: int) -> int:
    """Tokens that a penalty looks back at; the library makes room for each of them at once."""
    return min(last_n, context_length) if last_n >= 0 else context_length


def _has_penalties(params: SamplingParams) -> bool:
    neutral = (params.repeat_penalty, params.frequency_penalty, params.presence_penalty)
    return params.repeat_last_n != 0 and neutral != (1.0, 0.0, 0.0)


def _looks_back(params: SamplingParams) -> bool:
    """Whether drawing depends on tokens before."""
    return _has_penalties(params) or params.dry_multiplier > 0


def _biases(api: Any, params: SamplingParams) -> Any:
    array = (api.llama_logit_bias * len(params.logit_bias))()
    for entry, (token, bias) in zip(array, params.logit_bias.items(), strict=True):
        entry.token, entry.bias = token, bias
    return ctypes.cast(array, ctypes.POINTER(api.llama_logit_bias))
