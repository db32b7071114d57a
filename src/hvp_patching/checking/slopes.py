"""The metric's slope along a direction by plain forward passes, under hooks of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hvp_patching.checking.differences import OFFSETS, derivatives
from hvp_patching.checking.plain import Hooks, Move, PlainPaths
from hvp_patching.checking.reference import path_sizes
from hvp_patching.checking.subject import Subject
from hvp_patching.sites import Component

Estimates = list[tuple[float, float]]  # value and tolerance of every component


def slopes(
    subject: Subject,
    paths: PlainPaths,
    components: Sequence[Component],
    directions: Sequence[torch.Tensor],
    hooks: Hooks = (),
    first: Hooks = (),
) -> Estimates:
    """m's slope along every direction, under hooks (`first`: before the site is moved)."""
    moves = [
        Move(layer, offset * direction)
        for (layer, _), direction in zip(components, directions, strict=True)
        for offset in OFFSETS
    ]
    logits = paths.logits(moves, hooks, first).view(len(components), len(OFFSETS), -1)
    found: Estimates = []
    for rows in logits:
        slope = derivatives(paths.metric(rows), 1)
        tolerance = slope.errors[1] + subject.tolerance(path_sizes(rows, 1))[1]
        found.append((float(slope.values[1]), float(tolerance)))
    return found


def put(value: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A hook that puts a value in the place of whatever comes."""

    def hook(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        return value.expand_as(activation)

    return hook
