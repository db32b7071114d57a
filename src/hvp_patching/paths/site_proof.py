"""Does a site hook what its name says? Asked once of every model and site, by one reverse pass.

Shapes are checked at every run (sites.record). Here: what a hook puts in reaches the logits, and
neurons are neurons, that is, mlp.hook_post at a neuron depends on mlp.hook_pre there alone. Layers
of experts, whose hooks of these names hold the residual dimensions, fail that even at equal width.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.paths.precision import DecomposedLayerNorm, tolerance
from hvp_patching.paths.run import BaseRun, log_probability
from hvp_patching.sites import SITES, Hook

PRE, POST = SITES["mlp_pre"], SITES["mlp_post"]
_PROVEN: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def prove_site(run: BaseRun) -> None:
    """ValueError where the run's site is not what its name says in the run's model."""
    proven = _PROVEN.setdefault(run.model, set())
    if run.site.hook not in proven:
        try:
            _prove(run)
        except ValueError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise ValueError(
                f"site '{run.site.name}' of {architecture(run.model)} cannot be differentiated: "
                f"{one_line(error)}"
            ) from error
        proven.add(run.site.hook)


def _prove(run: BaseRun) -> None:
    layers, neurons = range(len(run.delta)), run.site.axis == -1
    zeros = {
        site.hook_name(layer): torch.zeros_like(run.delta[layer]).requires_grad_()
        for site in ((PRE, POST) if neurons else (run.site,))
        for layer in layers
    }
    posts: list[torch.Tensor] = []
    hooks = [
        (name, _add(zero, posts if name.endswith(POST.hook) else []))
        for name, zero in zeros.items()
    ]
    with torch.enable_grad(), DecomposedLayerNorm():
        m = log_probability(run.logits(hooks, run.prefix_copy()), run.target_ids)
    names = [run.site.hook_name(layer) for layer in layers]
    gradients = torch.autograd.grad(
        m.sum(), [zeros[name] for name in names], retain_graph=neurons, allow_unused=True
    )
    for layer, gradient in enumerate(gradients):
        if gradient is None:
            raise ValueError(
                f"site '{run.site.name}': what is put into {run.site.hook} of layer {layer} never "
                f"reaches the logits of {architecture(run.model)}"
            )
    if neurons:
        for layer, post in enumerate(posts):
            _check_neurons(run, layer, post, zeros[PRE.hook_name(layer)])


def _check_neurons(run: BaseRun, layer: int, post: torch.Tensor, pre: torch.Tensor) -> None:
    """∂post/∂pre is diagonal: weighting its columns and its rows is the same."""
    weights = torch.linspace(1, 2, post.numel(), dtype=post.dtype, device=post.device)
    weights = weights.view_as(post)
    plain, weighted = (
        torch.autograd.grad(post, pre, w, retain_graph=True, allow_unused=True)[0]
        for w in (torch.ones_like(post), weights)
    )
    if plain is not None and weighted is not None:
        off = (weighted - weights * plain).abs().max()
        if bool(off <= tolerance(post.dtype) * weighted.abs().max().clamp(min=1e-3)):
            return
    raise ValueError(
        f"site '{run.site.name}': layer {layer} of {architecture(run.model)} has no neurons there: "
        "mlp.hook_post is not an activation function of mlp.hook_pre (a layer of experts?); "
        "choose site 'mlp_out'"
    )


def _add(zero: torch.Tensor, posts: list[torch.Tensor]) -> Hook:
    def hook(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        if activation.shape != zero.shape:
            raise ValueError(
                f"mlp.hook_pre {tuple(activation.shape)} and mlp.hook_post {tuple(zero.shape)} are "
                "no neurons before and after their activation function; choose site 'mlp_out'"
            )
        posts.append(activation)
        return activation + zero

    return hook
