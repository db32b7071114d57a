"""The mean of both runs' gradients: the trapezoid between the two inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvp_patching.baselines._other_run import gradients_beside_other, tokens_of_two_runs
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.gradients import component_sums
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions, resolve_positions
from hvp_patching.paths.run import check_met
from hvp_patching.sites import get_site

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
    where, tokens = get_site(site), tokens_of_two_runs(model, pair, "clean_corrupted")
    run = base_run(model, tokens, where, direction, metric)
    gradients, met = gradients_beside_other(run, 1)
    check_met(run, met[:1], "a pass of both runs")
    means = [gradient.mean(0, keepdim=True) for gradient in gradients]
    apart = resolve_positions(positions, run)
    return component_sums(where, means, run.delta, run.start, apart)[0].cpu()
