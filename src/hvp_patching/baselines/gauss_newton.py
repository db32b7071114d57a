"""Gauss–Newton correction: attribution patching and half the curvature of the metric alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from hvp_patching.paths.gauss_newton import gauss_newton_form
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair
    from hvp_patching.sites import Component


def gauss_newton(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    components: Iterable[Component] | None = None,
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """Gauss–Newton estimate of every component's effect: AP + ½ δᵀJᵀ(∇²_logits m)Jδ.

    Returns a float64 tensor [n_components] in the order of the site's components, or of
    `components` (and `positions`, each apart), in the metric's units. Errors as in
    gauss_newton_form. Baseline of the paper's section 4.2.
    """
    ap, form = gauss_newton_form(
        model, pair, site, components, direction, positions=positions, metric=metric
    )
    return ap + form / 2
