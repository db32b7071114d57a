"""What the engine is compared with: the paper's way, and TransformerLens' own patching."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformer_lens import patching

from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.prompts import TokenPair
from hvp_patching.sites import Component, get_site

HEADS = get_site("attn_heads")


def _ids(model: Any, ids: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor([ids], device=next(model.parameters()).device)


def _metric(logits: torch.Tensor, tokens: TokenPair) -> torch.Tensor:
    log_probabilities = F.log_softmax(logits[0, -1].double(), -1)
    return torch.logsumexp(log_probabilities[list(tokens.target_ids)], -1)


class PerComponent:
    """The paper's way: one double backward through hooks for every component and node (E.1)."""

    def __init__(self, model: Any, tokens: TokenPair) -> None:
        self.model, self.tokens = model, tokens
        names = {HEADS.hook_name(layer) for layer in range(model.cfg.n_layers)}
        clean, corrupted = (
            model.run_with_cache(_ids(model, ids), names_filter=lambda name: name in names)[1]
            for ids in (tokens.clean_ids, tokens.corrupted_ids)
        )
        self.base = [clean[HEADS.hook_name(layer)] for layer in range(model.cfg.n_layers)]
        self.delta = [corrupted[HEADS.hook_name(layer)] - a for layer, a in enumerate(self.base)]

    def __call__(self, component: Component, node: float) -> tuple[float, float]:
        """f'(node) and f''(node) of one head."""
        layer, head = component
        delta = self.delta[layer][:, :, head]
        activation = (self.base[layer][:, :, head] + node * delta).requires_grad_(True)

        def patch(z: torch.Tensor, hook: Any) -> torch.Tensor:
            z = z.clone()
            z[:, :, head] = activation
            return z

        with torch.enable_grad(), DecomposedLayerNorm():
            logits = self.model.run_with_hooks(
                _ids(self.model, self.tokens.clean_ids),
                fwd_hooks=[(HEADS.hook_name(layer), patch)],
                use_cache=False,
            )
            (gradient,) = torch.autograd.grad(
                _metric(logits, self.tokens), activation, create_graph=True
            )
            first = (gradient * delta).sum()
            (hessian_vector,) = torch.autograd.grad(first, activation)
        return float(first.detach()), float((hessian_vector * delta).sum())


def transformer_lens_patching(model: Any, tokens: TokenPair) -> torch.Tensor:
    """f(1) of all heads by TransformerLens' `patching` module, [n_layers, n_heads]."""
    _, cache = model.run_with_cache(_ids(model, tokens.corrupted_ids))
    with torch.no_grad():
        return patching.get_act_patch_attn_head_out_all_pos(
            model, _ids(model, tokens.clean_ids), cache, lambda logits: _metric(logits, tokens)
        )
