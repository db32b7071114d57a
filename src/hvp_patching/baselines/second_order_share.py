"""Every component's share of the joint second-order expansion, from one Hessian–vector product.

F(c) is the metric when each component's activation z, as it is in this very run, gives way to
z + c_i (a'_i − z): c = 0 is the unpatched run, c_i = 1 holds component i at the other run's value,
c = 1 all of them. ∂F/∂c_i is AP, and ½ (H·1)_i is what the second order adds to it, a component's
own curvature and half of all its interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.gradients import component_sums
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions, resolve_positions
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.run import BaseRun, check_met
from hvp_patching.paths.vector_hvp import ContiguousLinear
from hvp_patching.prompts.pair import as_token_pair
from hvp_patching.sites import Hook, Site, get_site

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair


@dataclass(frozen=True)
class JointExpansion:
    """All components moved together by `scale` of their paths, in the metric's units.

    effect: F(s·1) − F(0); first: s Σ_i AP_i; second: ½ s² 1ᵀH1. At s = 1 first and second add up to
    the sum of second_order_share.
    """

    scale: float
    effect: float
    first: float
    second: float

    @property
    def gap(self) -> float:
        """What the expansion leaves of the effect, of third order in the scale."""
        return self.effect - self.first - self.second


@isolated()
def second_order_share(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """AP_i + ½ (H·1)_i of every component, float64 [n_components].

    H: Hessian of the metric in the coefficients c of the replaced form; 1: all components of the
    site at all positions, whichever are asked for. In the order of the site's components
    (positions: each of them apart, as in path_jets), in the metric's units. The sum meets
    F(1) − F(0) to third order, see joint_expansion. Errors as in site_attribution.
    """
    where = get_site(site)
    run = base_run(model, as_token_pair(model, pair), where, direction, metric)
    first, second = _derivatives(run, where)
    shares = [a.double() + b.double() / 2 for a, b in zip(first, second, strict=True)]
    ones = [torch.ones_like(share) for share in shares]
    apart = resolve_positions(positions, run)
    return component_sums(where, shares, ones, run.start, apart)[0].cpu()


@isolated()
def joint_expansion(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    scale: float = 1.0,
    *,
    metric: AnyMetric = LOGPROB,
) -> JointExpansion:
    """How far second order carries all components of a site together: its gap is the check.

    scale: of every component's path. ValueError for a scale outside (0, 1], else as in
    site_attribution.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"the scale of a joint expansion lies in (0, 1], got {scale:g}")
    where = get_site(site)
    run = base_run(model, as_token_pair(model, pair), where, direction, metric)
    first, second = ([x.double() for x in part] for part in _derivatives(run, where))
    moved = [torch.full_like(x, scale) for x in _coefficients(run, where)]
    with torch.no_grad():
        f = float(run.metric(run.logits(_replacing(run, moved), run.prefix_copy())))
    return JointExpansion(
        scale,
        f - run.value,
        scale * float(sum(x.sum() for x in first)),
        scale**2 / 2 * float(sum(x.sum() for x in second)),
    )


def _derivatives(run: BaseRun, site: Site) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """∂F/∂c and H·1 in every layer at c = 0, in the shape of _coefficients."""
    c = [x.requires_grad_() for x in _coefficients(run, site)]
    with torch.enable_grad(), DecomposedLayerNorm(), ContiguousLinear():
        m = run.metric(run.logits(_replacing(run, c), run.prefix_copy()))
        check_met(run, m.detach(), "a pass that replaces nothing")
        first = torch.autograd.grad(m.sum(), c, create_graph=True)
        along = torch.stack([x.double().sum() for x in first]).sum()
        second = torch.autograd.grad(along, c, materialize_grads=True)
    return [x.detach() for x in first], list(second)


def _coefficients(run: BaseRun, site: Site) -> list[torch.Tensor]:
    """Zeros, one number per component and position, in shapes that broadcast to activations."""
    if site.axis == -1:
        return [torch.zeros_like(delta) for delta in run.delta]
    return [torch.zeros_like(delta[..., :1]) for delta in run.delta]


def _replacing(run: BaseRun, c: list[torch.Tensor]) -> list[tuple[str, Hook]]:
    """Hooks that lead every component the fraction c of the way to the other run's value."""
    layers = zip(run.names, run.base, run.delta, c, strict=True)
    return [(name, _towards(a + delta, x)) for name, a, delta, x in layers]


def _towards(other: torch.Tensor, c: torch.Tensor) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return activation + c * (other - activation)

    return hook
