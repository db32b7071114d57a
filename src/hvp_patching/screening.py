"""Screen–Flag–Fix: attribution patching everywhere, correction where it is not to be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import torch

from hvp_patching.estimators import (
    AP,
    HVP,
    Estimator,
    MedianRule,
    QuadratureRule,
    by_name,
    required_jets,
)
from hvp_patching.isolation import isolated
from hvp_patching.metrics.reliability import reliability_score
from hvp_patching.paths.jets import Jets, path_jets
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pairs


def reliability(jets: Jets) -> torch.Tensor:
    """Reliability score ρ = |½ f''(0)| / |f'(0)| per component, float64 [n_components], no unit.

    NaN where attribution patching is exactly 0. Definition 1. ValueError if the jets lack order 2
    at node 0.
    """
    return reliability_score(jets.at(0.0, 1), jets.at(0.0, 2))


@isolated()
def screen_flag_fix(
    model: Any,
    pairs: PromptPair | TokenPair | Iterable[PromptPair | TokenPair],
    site: str | None = None,
    tau: float = 0.5,
    fix: Estimator | str | Callable[[], Estimator] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Attribution patching with its reliability, corrected where ρ > τ (sections 3.2 and 4.4).

    pairs: one pair or several; site: 'attn_heads' by default. fix: the estimator of flagged
    components, as such, by its name ('ms_hvp_5') or as the function that makes it; HVP() by
    default. Options go to path_jets, among them positions, patches and metric.
    Returns one row per prompt and component: prompt_id, layer, index[, position], ap, rho, flagged,
    fixed (in the metric's units) and cost, in nominal backward passes: 2 to screen, since ρ needs q
    itself, plus what `fix` needs beyond those two. Components with AP = 0 have no ρ; they are
    flagged where q ≠ 0. ValueError for τ < 0, no pairs, what is no estimator, or as in path_jets.
    """
    if not isinstance(tau, int | float) or not tau >= 0:
        raise ValueError(f"the flag threshold tau must be at least 0, got {tau!r}")
    rule = _estimator(fix)
    if options.get("patches") is not None:
        options["patches"] = list(options["patches"])  # an iterator would last for one pair
    frames = [
        _screen_one(model, tokens, site, tau, rule, options)
        for tokens in as_token_pairs(model, pairs)
    ]
    if not frames:
        raise ValueError("no prompt pairs given; screen_flag_fix needs at least one")
    return pd.concat(frames, ignore_index=True)


def _estimator(fix: Any) -> Estimator:
    """The estimator that is meant by an estimator, its name or the function that makes it."""
    if fix is None:
        return HVP()
    if isinstance(fix, str):
        return by_name(fix)
    if isinstance(fix, QuadratureRule | MedianRule):
        return fix
    try:
        made = fix()
    except TypeError:  # not a function, or one that needs a number of steps
        made = None
    if not isinstance(made, QuadratureRule | MedianRule):
        name = getattr(fix, "__name__", repr(fix))
        raise ValueError(
            f"fix={name} is no estimator; give one, such as estimators.MS_HVP(5), or its name, "
            "such as 'ms_hvp_5'"
        )
    return made


def _screen_one(
    model: Any,
    tokens: TokenPair,
    site: str | None,
    tau: float,
    rule: Estimator,
    options: dict[str, Any],
) -> pd.DataFrame:
    screen = path_jets(model, tokens, site, required_jets([HVP()]), **options)
    ap, rho = AP()(screen), reliability(screen)
    flagged = (rho > tau) | ((ap == 0) & (screen.at(0.0, 2) != 0))
    fixed = ap.clone()
    if bool(flagged.any()):
        fixed[flagged] = _fix(model, tokens, site, rule, screen, flagged, options)
    return screen.components.assign(
        prompt_id=tokens.prompt_id,
        ap=ap.numpy(),
        rho=rho.numpy(),
        flagged=flagged.numpy(),
        fixed=fixed.numpy(),
        cost=2 + flagged.numpy() * max(0, rule.cost - HVP().cost),
    )[["prompt_id", *screen.components.columns, "ap", "rho", "flagged", "fixed", "cost"]]


def _fix(
    model: Any,
    tokens: TokenPair,
    site: str | None,
    rule: Estimator,
    screen: Jets,
    flagged: torch.Tensor,
    options: dict[str, Any],
) -> torch.Tensor:
    """Estimates of the flagged components, from the screen's jets where these suffice."""
    if required_jets([HVP(), rule]) == required_jets([HVP()]):
        return rule(screen)[flagged]
    chosen: dict[str, Any]
    if options.get("patches") is None:  # the table names positions too
        chosen = {"components": screen.components[flagged.numpy()], "positions": None}
    else:
        patches = zip(options["patches"], flagged.tolist(), strict=True)
        chosen = {"patches": [patch for patch, flag in patches if flag]}
    return rule(path_jets(model, tokens, site, rule.request(), **{**options, **chosen}))
