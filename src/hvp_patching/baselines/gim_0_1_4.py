"""GIM as the package ``gim-explain`` released it up to 0.1.4: without its rule for gated MLPs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hvp_patching.baselines._rules import failures_named
from hvp_patching.baselines.gim import GimInactive, gim_context
from hvp_patching.isolation import isolated
from hvp_patching.paths.gradients import site_attribution
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair


@isolated()
def gim_0_1_4(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """The estimate of the release, which the paper had: three of gim's four modifications.

    Equal to gim in models without gated MLPs. Returns and errors as in gim. Section 4.1.
    """
    context = partial(gim_context, model, gated_scale=None)
    with failures_named(model, "GIM", GimInactive):
        return site_attribution(
            model, pair, site, direction, context, positions=positions, metric=metric
        )
