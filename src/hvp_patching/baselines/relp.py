"""RelP: attribution patching with relevance propagation in the place of gradients.

Relevance patching, Jafari et al. 2025 (arXiv 2508.21258), multiplies δ by propagation coefficients
of layer-wise relevance propagation. They are gradients of a network in which some factors are held
constant, so that this module changes gradients alone, by hooks of the bridge:

- LN-rule: the scale of every normalisation is a constant (its mean, where it has one, is not);
- identity rule: an activation function φ(h) is φ(h)/h held constant, times h; at h = 0, where
  there is no ratio, φ keeps its own slope, the ratio's limit;
- half rule: each factor of a gated MLP's product passes on half of what it gets;
- AH-rule: attention patterns are constants, so that nothing flows through queries and keys;
- 0-rule: linear layers (and all else, soft caps and the metric among it) keep their gradients.

The authors' code stabilises the ratio by 1e-6 in its denominator; here there is nothing to
stabilise, since values are not computed from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch

from hvp_patching.baselines._rules import (
    NORM_HOOK,
    POST,
    PRE,
    Named,
    Watch,
    detached,
    edits_of_scales_allowed,
    failures_named,
    gated_layers,
    leaf,
    up_hook,
)
from hvp_patching.failures import architecture
from hvp_patching.isolation import isolated
from hvp_patching.paths.gradients import site_attribution
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions
from hvp_patching.sites import Hook, n_layers

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair

PATTERN_HOOK = ".attn.hook_pattern"


class RelpInactive(ValueError):
    """A propagation rule that the model needs did not act."""


@isolated()
def relp(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """RelP's estimate of every component's effect: propagation coefficient times patch direction.

    All five rules (see the module's head), the metric's gradient taken as it is. Returns a float64
    tensor [n_components] in the order of the site's components, in units of the metric; positions:
    each of them apart, as in path_jets. Raises ``RelpInactive`` where a rule that the model needs
    did not act, else as ``site_attribution`` does.
    """
    context = partial(relp_context, model)
    with failures_named(model, "RelP", RelpInactive):
        return site_attribution(
            model, pair, site, direction, context, positions=positions, metric=metric
        )


@contextmanager
def relp_context(
    model: TransformerBridge,
    *,
    ln_rule: bool = True,
    identity_rule: bool = True,
    half_rule: bool = True,
    ah_rule: bool = True,
) -> Iterator[list[Named]]:
    """Forward passes inside keep their values and get RelP's gradients; each rule can be left out.

    Gives hooks that belong behind all others of the pass, ``run_with_hooks(ids, fwd_hooks=[…,
    *hooks])``: a patch at mlp.hook_pre is before the activation function. Raises ``RelpInactive``
    where a rule cannot act in the model, or on a normal exit did not act in every layer.
    """
    watch = Watch("RelP", RelpInactive)
    watch.need(model, (NORM_HOOK,) * ln_rule + (PATTERN_HOOK,) * ah_rule)
    if ah_rule:
        _check_attention(model)
    first: list[Named] = [(name, detached) for name in watch.needed.values()]
    last: list[Named] = []
    if identity_rule or half_rule:
        gated = gated_layers(model, watch, "its rules for activation functions and gates")
        kept: dict[str, torch.Tensor] = {}
        origins: dict[str, torch.Tensor] = {}
        for layer, is_gated in gated.items():
            inputs = (PRE(layer), up_hook(layer)) if is_gated else (PRE(layer),)
            watch.need(model, (*inputs, POST(layer)))
            last += [(name, _origin(origins, kept, name)) for name in inputs]
            halves = half_rule and is_gated
            first.append((POST(layer), _product(origins, kept, inputs, identity_rule, halves)))
    with isolated(), edits_of_scales_allowed(), ExitStack() as stack:
        stack.enter_context(watch.recording(model))
        stack.enter_context(model.hooks(fwd_hooks=first))
        yield last
    watch.check()


def _check_attention(model: TransformerBridge) -> None:
    for layer in range(n_layers(model)):
        if f"blocks.{layer}{PATTERN_HOOK}" not in model.hook_dict:
            raise RelpInactive(
                f"RelP: layer {layer} of {architecture(model)} mixes tokens without an attention "
                "pattern, for which it has no rule"
            )


def _origin(origins: dict[str, torch.Tensor], kept: dict[str, torch.Tensor], name: str) -> Hook:
    """Keep a factor as it came, and pass on a leaf in its place."""
    to_leaf = leaf(kept, name)

    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        origins[name] = activation
        passed: torch.Tensor = to_leaf(activation, hook)
        return passed

    return hook


def _product(
    origins: Mapping[str, torch.Tensor],
    kept: dict[str, torch.Tensor],
    inputs: tuple[str, ...],
    identity: bool,
    half: bool,
) -> Hook:
    """post with the same value, linear in the factors that made it: by the rules' coefficients."""

    def hook(post: torch.Tensor, hook: object) -> torch.Tensor:
        if not kept.keys() >= set(inputs):
            raise RelpInactive(
                f"RelP's hook at {inputs[0]} did not run: pass the hooks that the context gives as "
                "the last ones of the forward pass"
            )
        leaves = [kept.pop(name) for name in inputs]
        if not post.requires_grad:
            return post
        slopes = list(torch.autograd.grad(post.sum(), leaves))
        if identity:
            h = leaves[0].detach()
            slopes[0] = torch.where(h == 0, slopes[0], post.detach() / h)
        linear = post.detach()
        for name, slope in zip(inputs, slopes, strict=True):
            x = origins[name]
            linear = linear + (slope / 2 if half else slope) * (x - x.detach())
        return linear

    return hook
