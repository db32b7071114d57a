"""Baselines that need another run's gradients or a joint direction, by plain forward passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from hvp_patching.checking.differences import OFFSETS, Derivatives, derivatives
from hvp_patching.checking.plain import Move, PlainPaths
from hvp_patching.checking.reference import OF_SPREAD, OF_TERMS
from hvp_patching.checking.slopes import Estimates, put, slopes
from hvp_patching.checking.subject import Subject
from hvp_patching.sites import Component

EMBEDDING = "hook_embed"


def clean_corrupted_again(subject: Subject, components: Sequence[Component]) -> Estimates:
    """The mean of both runs' slopes along this run's δ."""
    paths = subject.paths
    back = {"noising": "denoising", "denoising": "noising"}[subject.direction]
    other = replace(subject, direction=back).paths
    directions = [paths.component(*component) for component in components]
    both = [slopes(subject, where, components, directions) for where in (paths, other)]
    return _mean(both)


def ig_inputs_again(subject: Subject, components: Sequence[Component], steps: int) -> Estimates:
    """The mean slope along δ over runs whose embeddings lie between the two runs'."""
    paths = subject.paths
    mine, other = (paths.read_hooks(ids, [EMBEDDING])[0] for ids in (paths.ids, paths.other))
    directions = [paths.component(*component) for component in components]
    parts = []
    for k in range(steps):
        between = other + (k / steps) * (mine - other)
        hooks = [(EMBEDDING, put(between))]
        parts.append(slopes(subject, paths, components, directions, hooks))
    return _mean(parts)


def _mean(parts: Sequence[Estimates]) -> Estimates:
    return [
        (sum(v for v, _ in row) / len(row), sum(t for _, t in row) / len(row))
        for row in zip(*parts, strict=True)
    ]


def second_order_share_again(subject: Subject, components: Sequence[Component]) -> Estimates:
    """The slope along δ, and ½ (H·1)_i = ⅛ (curvature along 1 + e_i less that along 1 − e_i).

    Every component is led from what it is in the very run towards the other run's value.
    """
    paths = subject.paths
    directions = [paths.component(*component) for component in components]
    first = slopes(subject, paths, components, directions)
    found: Estimates = []
    for (value, tolerance), component in zip(first, components, strict=True):
        logits = [_along(paths, component, sign) for sign in (1.0, -1.0)]
        plus, minus = (derivatives(paths.metric(x), 2) for x in logits)
        share = float(plus.values[2] - minus.values[2]) / 8
        error = float(plus.errors[2] + minus.errors[2]) / 8
        size = _size(*(derivatives(x, 2) for x in logits))
        rounding = float(subject.tolerance(torch.tensor(size))) / 2
        found.append((value + share, tolerance + error + rounding))
    return found


def _along(paths: PlainPaths, component: Component, sign: float) -> torch.Tensor:
    """Logits at c = t (1 + sign · e_i) for t in OFFSETS, [n_offsets, vocabulary]."""
    ones = [torch.ones_like(a) for a in paths.a]
    layer, index = component
    ones[layer] = ones[layer] + sign * paths.component(layer, index, ones[layer])
    still = Move(layer, torch.zeros_like(paths.a[layer]))
    goals = [a + delta for a, delta in zip(paths.a, paths.delta, strict=True)]
    rows = []
    for t in torch.split(torch.tensor(OFFSETS, dtype=torch.float64), paths.rows_per_batch):
        hooks = []
        for i, (goal, one) in enumerate(zip(goals, ones, strict=True)):
            c = t.to(one).view(-1, *[1] * one.ndim) * one
            hooks.append((paths.hook(paths.site, i), _towards(goal, c)))
        rows.append(paths.logits([still] * len(t), hooks))
    return torch.cat(rows)


def _towards(goal: torch.Tensor, c: torch.Tensor) -> Callable[..., torch.Tensor]:
    def hook(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        return activation + c * (goal - activation)

    return hook


def _size(plus: Derivatives, minus: Derivatives) -> float:
    """What rounding of (H·1)_i is relative to, from the logits along 1 + e_i and 1 − e_i."""
    spread = plus.values[0].max() - plus.values[0].min()
    mixed = (plus.values[2] - minus.values[2]) / 4
    joint, own = ((plus.values[1] + s * minus.values[1]) / 2 for s in (1, -1))
    terms = mixed.abs().max() + joint.abs().max() * own.abs().max()
    return float(OF_SPREAD[2] * spread + OF_TERMS[2] * terms)
