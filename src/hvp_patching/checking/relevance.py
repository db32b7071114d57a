"""RelP by plain forward passes: finite differences of the network that its rules describe.

Norm scales and attention patterns are held where the unpatched run has them, and every MLP's
product is put together again, linear in what goes into it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from hvp_patching.checking.check import CannotCheck
from hvp_patching.checking.plain import Hooks, PlainPaths
from hvp_patching.checking.slopes import Estimates, put, slopes
from hvp_patching.checking.subject import Subject
from hvp_patching.sites import Component

HELD = ("hook_scale", ".attn.hook_pattern")
PRE, UP, POST = (f"blocks.{{}}.mlp.{name}" for name in ("hook_pre", "hook_pre_linear", "hook_post"))


def relp_again(subject: Subject, components: Sequence[Component]) -> Estimates:
    """The slope along every component's δ in that network."""
    paths = subject.paths
    directions = [paths.component(*component) for component in components]
    points = {id(hp): name for name, hp in paths.model.hook_dict.items() if name.endswith(HELD)}
    names = list(points.values())
    held = zip(names, paths.read_hooks(paths.ids, names), strict=True)
    first = [(name, put(value)) for name, value in held]
    last: list[tuple[str, Callable[..., Any]]] = []
    for layer in paths.layers:
        product, readers = _mlp(paths, layer)
        first += product
        last += readers
    with warnings.catch_warnings():  # the bridge announces every edit of a norm's scale
        warnings.filterwarnings("ignore", message=".*edited hook_scale")
        return slopes(subject, paths, components, directions, last, first)


def _mlp(paths: PlainPaths, layer: int) -> tuple[Hooks, Hooks]:
    """The product's hook, and those that read its factors behind any patch."""
    gated = UP.format(layer) in paths.model.hook_dict
    names = [hook.format(layer) for hook in ((PRE, UP) if gated else (PRE,))]
    *factors, post = paths.read_hooks(paths.ids, [*names, POST.format(layer)])
    if any(bool((factor == 0).any()) for factor in factors):
        raise CannotCheck("RelP's ratios have no value where a factor of an MLP is exactly 0")
    ratios = [post / factor / len(factors) for factor in factors]
    now: dict[str, torch.Tensor] = {}

    def product(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        parts = [ratio * now[name] for ratio, name in zip(ratios, names, strict=True)]
        return torch.stack(parts).sum(0)

    return [(POST.format(layer), product)], [(name, _keep(now, name)) for name in names]


def _keep(now: dict[str, torch.Tensor], name: str) -> Callable[..., None]:
    def hook(activation: torch.Tensor, hook: Any) -> None:
        now[name] = activation

    return hook
