"""The mean of both runs' gradients: the trapezoid between the two inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvp_patching.baselines._other_run import OTHER, tokens_of_two_runs
from hvp_patching.isolation import isolated
from hvp_patching.paths.gradients import site_attribution
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair


@isolated()
def clean_corrupted(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """½ (gradient of the clean run + gradient of the corrupted run) · δ, float64 [n_components].

    In the order of the site's components (positions: each of them apart, as in path_jets), in the
    metric's units. Denoising gives minus the noising estimate, since only δ turns round. ValueError
    under zero corruption, which has no other run, else as in site_attribution.
    """
    tokens = tokens_of_two_runs(model, pair, "clean_corrupted")
    here, there = (
        site_attribution(model, tokens, site, way, positions=positions, metric=metric)
        for way in (direction, OTHER.get(direction, direction))
    )
    return (here - there) / 2  # there, δ has the other sign
