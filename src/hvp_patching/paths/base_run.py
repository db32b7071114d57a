"""The unpatched run of one prompt pair and everything the patch paths share.

Positions before the first changed token are the same in both runs; their keys and values are
computed once and reused as a key–value cache, where the model allows it (prefix.py). Patched runs
see only the suffix.
"""

from __future__ import annotations

from typing import Any

import torch

from hvp_patching.failures import architecture
from hvp_patching.isolation import isolated
from hvp_patching.paths.precision import keep_precision, tolerance
from hvp_patching.paths.prefix import shortened
from hvp_patching.paths.run import BaseRun, log_probability
from hvp_patching.paths.site_proof import prove_site
from hvp_patching.prompts.pair import ZERO_CORRUPTION, TokenPair, label
from hvp_patching.sites import Site, configuration, record

DIRECTIONS = ("noising", "denoising")


def check_eval_mode(model: Any) -> None:
    """ValueError if any module is in train mode: dropout would pass for an effect (TL #1787)."""
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode; call model.eval() before measuring effects")


@isolated()
def base_run(model: Any, tokens: TokenPair, site: Site, direction: str = "noising") -> BaseRun:
    """Run both prompts once and cut at the first changed token (section 3.1).

    direction: 'noising' patches the corrupted run's activations into the clean run, 'denoising'
    the reverse. Under zero corruption a' = 0 at every position (appendix E.3). ValueError for an
    unknown direction, denoising under zero corruption, a model in train mode, one whose runs
    differ or are not finite, or one at whose hooks the site is not what its name says.
    """
    zero = tokens.corruption == ZERO_CORRUPTION
    _check(model, tokens, direction, zero)
    device = next(model.parameters()).device
    clean = torch.tensor([tokens.clean_ids], device=device)
    corrupted = torch.tensor([tokens.corrupted_ids], device=device)
    base, other = (clean, corrupted) if direction == "noising" else (corrupted, clean)
    targets = torch.tensor(tokens.target_ids, device=device)
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        a, logits = _finite(tokens, site, *record(model, base, site, use_cache=False))
        if zero:
            a_other = [torch.zeros_like(x) for x in a]
        else:
            found = record(model, other, site, use_cache=False)
            a_other, _ = _finite(tokens, site, *found)
        value = float(log_probability(logits, targets))
    if not torch.isfinite(torch.tensor(value)):
        raise ValueError(f"the target of {label(tokens)} has log-probability {value}")
    whole = BaseRun(
        model,
        site,
        base,
        None,
        tuple((y - x) for x, y in zip(a, a_other, strict=True)),
        targets,
        value,
        tolerance(model.cfg.dtype) * max(1.0, float(logits[logits.isfinite()].abs().max())),
        label(tokens),
        zero,
    )
    run = shortened(whole, tokens.first_changed, a)
    prove_site(run)
    return run


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
    tokens: TokenPair, site: Site, activations: list[torch.Tensor], logits: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """A run's results, or a ValueError that says where its numbers end (−∞ may mask a logit)."""
    for layer, activation in enumerate(activations):
        if not bool(activation.isfinite().all()) and not bool(logits.isnan().any()):
            raise ValueError(
                f"the activations of {label(tokens)} at site '{site.name}' are not finite in layer "
                f"{layer}; check the weights, or load the model in float32 or float64"
            )
    if bool(logits.isnan().any()) or bool((logits == torch.inf).any()):
        what = "NaN" if bool(logits.isnan().any()) else "infinite"
        raise ValueError(
            f"the logits of {label(tokens)} are {what}; check the weights, or load the model in "
            "float32 or float64"
        )
    return activations, logits
