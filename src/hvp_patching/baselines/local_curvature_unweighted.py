"""The local correction without the gradient's weight: the other reading of section 3.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvp_patching.baselines.local_curvature import local_correction
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair


def local_curvature_unweighted(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "mlp_pre",
    direction: str = "noising",
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """AP + ½ Σ (uφ)''(h) δ² over positions, float64 [n_components].

    The curvature of the neuron's own output, with no gradient to bring it to nats: a term in the
    activation's units beside one in nats. Errors as in local_curvature. Section 3.3, Figure 2.
    """
    return local_correction(model, pair, site, direction, False, positions, metric)
