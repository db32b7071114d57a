"""AtP* (Kramár et al. 2024, arXiv 2403.00745) for components patched where their output lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvp_patching.baselines._grad_drop import grad_drop
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.prompts.pair import as_token_pair
from hvp_patching.sites import get_site

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair

SITES = ("attn_heads", "mlp_pre", "mlp_post", "mlp_out")


@isolated()
def atp_star(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """GradDrop on every component's own activation, float64 [n_components].

    AtP*'s other part, the QK fix, replaces the linearised softmax by the exact change of the
    attention pattern. A head is patched at hook_z, behind its softmax, where δ already holds that
    exact change; atp_star_qkv starts from queries, keys and values instead. ValueError for a
    site that is not inside a layer's attention or MLP, else as in path_jets. Section 4.1.
    """
    chosen = get_site(site)
    if site not in SITES:
        raise ValueError(
            f"AtP* drops gradients through attention and MLPs, and site '{site}' is in neither; "
            f"choose one of: {', '.join(SITES)}"
        )
    run = base_run(model, as_token_pair(model, pair), chosen, direction, metric)
    return grad_drop(run, [run.delta])[0]
