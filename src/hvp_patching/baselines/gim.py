"""GIM: attribution patching with modified gradients, through the authors' package ``gim-explain``.

Four things change in the backward pass and nothing in the forward pass: normalisation statistics
are constants, the attention softmax is differentiated at a higher temperature, the gradients of
queries, keys and values are scaled down, and so are those of the two factors of a gated MLP. The
package is written for HookedTransformer; this module makes it act on a TransformerBridge and
notices when a part of it does not. Its releases up to 0.1.4 have the first three only (gim_0_1_4);
the fourth is added here as its authors' main branch describes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import gim as gim_explain
import torch
import torch.nn.functional as F

from hvp_patching.baselines._rules import (
    NORM_HOOK,
    POST,
    Watch,
    edits_of_scales_allowed,
    failures_named,
    gated_layers,
    scaled_gradient,
)
from hvp_patching.isolation import isolated
from hvp_patching.paths.gradients import site_attribution
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair

QKV_HOOKS = (".attn.hook_q", ".attn.hook_k", ".attn.hook_v")


class GimInactive(ValueError):
    """A requested gradient modification did not act on the model."""


@isolated()
def gim(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """GIM's estimate of every component's effect: modified gradient times patch direction.

    All four modifications. Returns a float64 tensor [n_components] in the order of the site's
    components, in units of the metric; positions: each of them apart, as in path_jets. Raises
    ``GimInactive`` where one of the modifications never fired, else as ``site_attribution`` does.
    Baseline of section 4.1.
    """
    context = partial(gim_context, model)
    with failures_named(model, "GIM", GimInactive):
        return site_attribution(
            model, pair, site, direction, context, positions=positions, metric=metric
        )


@contextmanager
def gim_context(
    model: TransformerBridge,
    *,
    freeze_norm: bool = True,
    softmax_temperature: float | None = 2.0,
    q_scale: float | None = 0.25,
    k_scale: float | None = 0.25,
    v_scale: float | None = 0.5,
    gated_scale: float | None = 0.5,
) -> Iterator[None]:
    """Forward passes inside keep their values (to rounding) and get GIM's gradients.

    ``freeze_norm=False``, ``softmax_temperature`` None or 1, all three scales of q, k and v None,
    and ``gated_scale`` None turn the four modifications off. The defaults are the package's; those
    of its main branch where the release has none: gated_scale, of the gradients through both
    factors of a gated MLP's product (an MLP without a gate has nothing to scale). Model and torch
    are restored on exit, also after an exception. Raises ``GimInactive`` where a layer's MLP is of
    a kind that cannot be told, or on a normal exit if a requested modification
    did not act in every layer, which includes leaving the context without a forward pass. Functions
    of torch are replaced inside, so that no other computation of this package runs meanwhile.
    """
    tempered = softmax_temperature is not None and softmax_temperature != 1.0
    scaled = any(scale is not None for scale in (q_scale, k_scale, v_scale))
    watch = Watch("GIM", GimInactive)
    watch.need(model, (NORM_HOOK,) * freeze_norm + QKV_HOOKS * scaled)
    n_attention = Watch("GIM", GimInactive).need(model, QKV_HOOKS[:1]) if tempered else 0
    products: list[str] = []
    if gated_scale is not None:
        gated = gated_layers(model, watch, "its rule for gated MLPs")
        products = [POST(layer) for layer, is_gated in gated.items() if is_gated]
        watch.need(model, products)
    softmax_calls = [0]

    with isolated(), ExitStack() as stack:
        stack.enter_context(edits_of_scales_allowed())
        stack.enter_context(watch.recording(model))
        if gated_scale is not None:
            # both factors together: what the product gets is scaled before it reaches them
            halves = [(name, scaled_gradient(gated_scale)) for name in products]
            stack.enter_context(model.hooks(fwd_hooks=halves))
        stack.enter_context(
            gim_explain.GIM(
                model,
                freeze_norm=freeze_norm,
                softmax_temperature=softmax_temperature,
                q_scale=q_scale,
                k_scale=k_scale,
                v_scale=v_scale,
            )
        )
        if tempered:
            stack.enter_context(_softmax_takes_dtype(softmax_calls))
        yield
    watch.check()
    if softmax_calls[0] < n_attention:
        raise GimInactive(
            f"GIM's softmax temperature acted {softmax_calls[0]} times in {n_attention} attention "
            "layers: load the model with eager attention and run it inside the context."
        )


@contextmanager
def _softmax_takes_dtype(calls: list[int]) -> Iterator[None]:
    """Let the package's softmax replacements accept the arguments that models pass.

    Models call ``F.softmax(scores, dim=-1, dtype=torch.float32)``; the replacements know neither
    ``dtype`` nor ``_stacklevel``. The cast that ``dtype`` asks for is done first. Only softmax is
    replaced, not log_softmax: the metric's own normalisation keeps its true gradient.
    """
    owners = (F, torch, torch.Tensor)
    replaced = tuple(owner.softmax for owner in owners)
    try:
        for owner, patched in zip(owners, replaced, strict=True):
            setattr(owner, "softmax", _with_dtype(patched, calls, owner is F))  # noqa: B010
        yield
    finally:
        for owner, patched in zip(owners, replaced, strict=True):
            setattr(owner, "softmax", patched)  # noqa: B010


def _with_dtype(
    patched: Callable[..., torch.Tensor], calls: list[int], functional: bool
) -> Callable[..., torch.Tensor]:
    """``patched`` with the signature it stands in for, every call counted."""

    def softmax(
        input: torch.Tensor, dim: int | None = None, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        calls[0] += 1
        return patched(input if dtype is None else input.to(dtype), dim=dim)

    def functional_softmax(
        input: torch.Tensor,
        dim: int | None = None,
        _stacklevel: int = 3,
        dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        return softmax(input, dim, dtype)

    return functional_softmax if functional else softmax
