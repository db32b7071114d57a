"""The unpatched run of one prompt pair and everything the patch paths share.

Positions before the first changed token are the same in both runs; their keys and values are
computed once and reused as a key–value cache, where the model allows it (prefix.py). Patched runs
see only the suffix.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from hvp_patching.failures import architecture
from hvp_patching.isolation import isolated
from hvp_patching.paths.metric import LOGPROB, AnyMetric, Readout, as_metric
from hvp_patching.paths.metric_proof import sensitivity
from hvp_patching.paths.precision import keep_precision, tolerance
from hvp_patching.paths.prefix import shortened
from hvp_patching.paths.run import BaseRun
from hvp_patching.paths.site_proof import prove_site
from hvp_patching.prompts.pair import ZERO_CORRUPTION, TokenPair, label
from hvp_patching.sites import Place, configuration, n_layers, place, record

DIRECTIONS = ("noising", "denoising")


def check_eval_mode(model: Any) -> None:
    """ValueError if any module is in train mode: dropout would pass for an effect (TL #1787)."""
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode; call model.eval() before measuring effects")


# What the runs of one prompt share while `shared_base_runs` is open.
_SHARED: ContextVar[dict[Hashable, BaseRun] | None] = ContextVar("base runs", default=None)


@contextmanager
def shared_base_runs(share: bool = True) -> Iterator[None]:
    """Inside, equal calls of `base_run` on one model are answered by one run.

    For callers that know the model stays as it is: nothing tells an edited weight or a hook of
    one's own. `share=False` measures every run again, as a clock must.
    """
    token = _SHARED.set({} if share else None)
    try:
        yield
    finally:
        _SHARED.reset(token)


@isolated()
def base_run(
    model: Any,
    tokens: TokenPair,
    site: Place,
    direction: str = "noising",
    metric: AnyMetric = LOGPROB,
    start: int | None = None,
) -> BaseRun:
    """Run both prompts once and cut at the first changed token (section 3.1).

    direction: 'noising' patches the corrupted run's activations into the clean run, 'denoising'
    the reverse. Under zero corruption a' = 0 at every position (appendix E.3). site: where a and
    δ are recorded, a site or any hooks; start: cut there, if that is earlier. ValueError for an
    unknown direction or metric, denoising under zero corruption, a model in train mode, one whose
    runs differ or are not finite, or one at whose hooks the site is not what its name says.
    """
    shared = _SHARED.get()
    if shared is None:
        return _base_run(model, tokens, site, direction, metric, start)
    key = (id(model), tokens, site, direction, metric, start)
    if key not in shared:
        shared[key] = _base_run(model, tokens, site, direction, metric, start)
    check_eval_mode(model)
    return shared[key]


def _base_run(
    model: Any,
    tokens: TokenPair,
    site: Place,
    direction: str,
    metric: AnyMetric,
    start: int | None,
) -> BaseRun:
    zero = tokens.corruption == ZERO_CORRUPTION
    _check(model, tokens, direction, zero)
    device = next(model.parameters()).device
    clean = torch.tensor([tokens.clean_ids], device=device)
    corrupted = torch.tensor([tokens.corrupted_ids], device=device)
    base, other = (clean, corrupted) if direction == "noising" else (corrupted, clean)
    readout = as_metric(metric).readout(model, tokens)
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        a, logits = _finite(model, tokens, site, *record(model, base, site, use_cache=False))
        if zero:
            a_other, other_value = [torch.zeros_like(x) for x in a], math.nan
        else:
            found = record(model, other, site, use_cache=False)
            a_other, there = _finite(model, tokens, site, *found)
            other_value = float(readout(there))
        size = max(1.0, float(logits[logits.isfinite()].abs().max()))
    value, slack = _value(tokens, readout, logits, tolerance(model.cfg.dtype) * size)
    whole = BaseRun(
        model,
        site,
        base,
        None,
        0,
        tuple((y - x) for x, y in zip(a, a_other, strict=True)),
        tuple(a),
        readout,
        value,
        slack,
        label(tokens),
        zero,
        None if zero else other,
        other_value,
    )
    cut = tokens.first_changed if start is None else min(start, tokens.first_changed)
    run = shortened(whole, cut)
    prove_site(run)
    return run


def _value(
    tokens: TokenPair, readout: Readout, logits: torch.Tensor, rounding: float
) -> tuple[float, float]:
    """m of the unpatched run, and how far a repetition may be off; ValueError if m is no number.

    rounding: that of a logit.
    """
    if not readout.polynomial:  # a function that nobody has looked at
        rounding *= sensitivity(readout, logits[0, -1].double())
    with torch.no_grad():
        value = float(readout(logits))
    if not math.isfinite(value):
        what = "log-probability" if readout.name == LOGPROB else readout.name
        raise ValueError(f"the target of {label(tokens)} has {what} {value}")
    return value, rounding


def _check(model: Any, tokens: TokenPair, direction: str, zero: bool) -> None:
    if direction not in DIRECTIONS:
        raise ValueError(f"unknown direction '{direction}'; choose one of: {', '.join(DIRECTIONS)}")
    if zero and direction != "noising":
        raise ValueError(
            f"{label(tokens)}: zero corruption has no corrupted run, so direction '{direction}' "
            "has no base to patch; use direction 'noising'"
        )
    check_eval_mode(model)
    if getattr(configuration(model), "is_encoder_decoder", False):
        raise ValueError(
            f"{architecture(model)} is an encoder–decoder; give a model that "
            "continues its own prompt"
        )
    if any(weight.is_inference() for weight in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "the model's weights were made inside torch.inference_mode, which nothing can be "
            "differentiated through; load the model outside of it"
        )


def _finite(
    model: Any,
    tokens: TokenPair,
    site: Place,
    activations: list[torch.Tensor],
    logits: torch.Tensor,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """A run's results, or a ValueError that says where its numbers end (−∞ may mask a logit)."""
    for name, activation in zip(site.names(n_layers(model)), activations, strict=True):
        if not bool(activation.isfinite().all()) and not bool(logits.isnan().any()):
            raise ValueError(
                f"the activations of {label(tokens)} at {site.label} are not finite{place(name)}; "
                "check the weights, or load the model in float32 or float64"
            )
    if bool(logits.isnan().any()) or bool((logits == torch.inf).any()):
        what = "NaN" if bool(logits.isnan().any()) else "infinite"
        raise ValueError(
            f"the logits of {label(tokens)} are {what}; check the weights, or load the model in "
            "float32 or float64"
        )
    return activations, logits
