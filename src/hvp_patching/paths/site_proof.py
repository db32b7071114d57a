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
from hvp_patching.paths.run import BaseRun
from hvp_patching.sites import SITES, Hook, Site, spoken

PRE, POST = SITES["mlp_pre"], SITES["mlp_post"]
_PROVEN: WeakKeyDictionary[Any, set[tuple[str, bool]]] = WeakKeyDictionary()


def prove_site(run: BaseRun) -> None:
    """ValueError where the run's site is not what its name says in the run's model."""
    proven = _PROVEN.setdefault(run.model, set())
    asked = {(name, _has_neurons(run)) for name in run.names}
    if not asked <= proven:
        try:
            _prove(run)
        except ValueError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise ValueError(
                f"{run.site.label} of {architecture(run.model)} cannot be differentiated: "
                f"{one_line(error)}"
            ) from error
        proven.update(asked)


def _has_neurons(run: BaseRun) -> bool:
    return isinstance(run.site, Site) and run.site.axis == -1


def _prove(run: BaseRun) -> None:
    layers, neurons = range(len(run.delta)), _has_neurons(run)
    zeros = {
        name: torch.zeros_like(delta).requires_grad_()
        for place in ((PRE, POST) if neurons else (run.site,))
        for name, delta in zip(place.names(len(layers)), run.delta, strict=True)
    }
    posts: list[torch.Tensor] = []
    hooks = [
        (name, _add(zero, posts if name.endswith(POST.hook) else []))
        for name, zero in zeros.items()
    ]
    with torch.enable_grad(), DecomposedLayerNorm():
        m = run.metric(run.logits(hooks, run.prefix_copy()))
    gradients = torch.autograd.grad(
        m.sum(), [zeros[name] for name in run.names], retain_graph=neurons, allow_unused=True
    )
    for name, gradient in zip(run.names, gradients, strict=True):
        if gradient is None:
            raise ValueError(
                f"{run.site.label}: what is put into {spoken(name)} never reaches the logits of "
                f"{architecture(run.model)}"
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
        f"{run.site.label}: layer {layer} of {architecture(run.model)} has no neurons there: "
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
