"""The prefix cache, which proves itself: the suffix run on it must give the whole run again.

Keys and values of the unchanged tokens can be reused where they depend on nothing that follows.
Rotary scales that change with the length, attention in both directions, or state that is no
key–value cache break that; such models run without a prefix, with one warning each.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.paths.precision import keep_precision, tolerance
from hvp_patching.paths.run import BaseRun, cache_options
from hvp_patching.sites import configuration, place, record, run_model

log = logging.getLogger(__name__)
# Activations of a first token can be a thousand times the others', whose differences drown in its
# rounding: 5e-5 of the largest was seen in float32, where f(0) agreed to 1e-7.
LOOSENED, LOOSEST = 100, 0.1
_WARNED: WeakSet[Any] = WeakSet()


def shortened(run: BaseRun, start: int) -> BaseRun:
    """The whole run cut at position `start`, or as it is where the cut would change it.

    One more pass proves the result: over the suffix, or over the whole prompt where nothing is cut.
    ValueError where two runs of the model differ.
    """
    reason = _early_change(run, start)
    if start and reason is None:
        cut = replace(
            run,
            suffix=run.suffix[:, start:],
            start=start,
            delta=_suffix(run.delta, start),
            base=_suffix(run.base, start),
        )
        try:
            cut = replace(cut, prefix=_cache(run, start))
            reason = _difference(cut)
        except Exception as error:
            if out_of_memory(error):
                raise
            reason = one_line(error)
        if reason is None:
            return cut
    repeated = _difference(run)
    if repeated:
        raise ValueError(
            f"two equal runs of {architecture(run.model)} on {run.prompt} differ ({repeated}): its "
            "forward pass is random, so that no effect can be measured"
        )
    if reason is not None and run.model not in _WARNED:
        _WARNED.add(run.model)
        log.warning(
            "%s has no prefix cache that can be reused (%s); its runs are over whole prompts, "
            "which takes longer",
            architecture(run.model),
            reason,
        )
    return run


def _suffix(activations: Sequence[torch.Tensor], start: int) -> tuple[torch.Tensor, ...]:
    return tuple(activation[:, start:].contiguous() for activation in activations)


def _early_change(run: BaseRun, start: int) -> str | None:
    """Where the prefix's activations differ between the two runs, or None."""
    for name, delta, a in zip(run.names, run.delta, run.base, strict=True):
        if not _equal(delta[:, :start], torch.zeros_like(delta[:, :start]), a, tolerance(a.dtype)):
            return f"tokens before the first change feel it{place(name)}"
    return None


def _equal(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, relative: float) -> bool:
    """Whether activations agree to a fraction of the largest value of `scale`."""
    return bool(((a - b).abs() <= relative * scale.abs().max()).all())


def _cache(run: BaseRun, start: int) -> DynamicCache:
    cache = DynamicCache(config=configuration(run.model))
    with torch.no_grad(), keep_precision(run.model.cfg.dtype):
        run_model(run.model, run.suffix[:, :start], past_key_values=cache, use_cache=True)
    for layer in cache.layers:  # recurrent state is none, and could not be given more rows
        if not isinstance(layer, DynamicLayer) or isinstance(layer, LinearAttentionLayer):
            raise ValueError(f"a {type(layer).__name__} is more than keys and values")
    if cache.get_seq_length() != start:
        raise ValueError(f"it holds {cache.get_seq_length()} of {start} tokens")
    return cache


def _difference(run: BaseRun) -> str | None:
    """How one more unpatched pass differs from the base run, beyond rounding, or None."""
    options = cache_options(run.prefix_copy())
    with torch.no_grad(), keep_precision(run.model.cfg.dtype):
        again, logits = record(run.model, run.suffix, run.site, **options)
        value = run.metric(logits)
    if not run.is_met(value):
        return f"f(0) is {float(value):.4f} instead of {run.value:.4f}"
    for name, a, b in zip(run.names, run.base, again, strict=True):
        if not _equal(a, b, a, min(LOOSEST, LOOSENED * tolerance(a.dtype))):
            return f"activations differ{place(name)}"
    return None
