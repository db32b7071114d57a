"""AtP*'s GradDrop by plain forward passes: a dropped layer's outputs are held where they were."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hvp_patching.checking.plain import Hooks, Move, PlainPaths, reader
from hvp_patching.checking.slopes import Estimates, put, slopes
from hvp_patching.checking.subject import Subject
from hvp_patching.sites import Component

BRANCHES = ("attn_out", "mlp_out")  # what a layer adds to the residual stream


def atp_star_again(subject: Subject, components: Sequence[Component]) -> Estimates:
    """AtP* of components along their own δ: value and tolerance."""
    paths = subject.paths
    directions = [paths.component(*component) for component in components]
    return _grad_drop(subject, paths, components, directions)


def atp_star_qkv_again(subject: Subject, components: Sequence[Component]) -> Estimates:
    """The sum over a head's query, key and value of AtP* along the change of z that each makes."""
    total = [(0.0, 0.0)] * len(components)
    for node in "qkv":
        changes = _z_changes(subject, node, {layer for layer, _ in components})
        directions = [
            subject.paths.component(layer, index, changes[layer]) for layer, index in components
        ]
        part = _grad_drop(subject, subject.paths, components, directions)
        total = [(a + b, s + t) for (a, s), (b, t) in zip(total, part, strict=True)]
    return total


def _z_changes(subject: Subject, node: str, layers: set[int]) -> dict[int, torch.Tensor]:
    """Change of z [n_pos, n_heads, d_head] when one layer's q, k or v are the other run's."""
    paths, base, changes = subject.paths_at(node), subject.paths.a, {}
    for layer in layers:
        kept: dict[int, torch.Tensor] = {}
        hook = (paths.hook("attn_heads", layer), reader(kept, layer))
        paths.logits([Move(layer, paths.delta[layer])], [hook])
        changes[layer] = kept[layer][0] - base[layer]
    return changes


def _grad_drop(
    subject: Subject,
    paths: PlainPaths,
    components: Sequence[Component],
    directions: Sequence[torch.Tensor],
) -> Estimates:
    layers = len(paths.layers)
    held = [
        slopes(subject, paths, components, directions, _held(paths, layer))
        for layer in paths.layers
    ]
    plain = slopes(subject, paths, components, directions, [])
    found: Estimates = []
    for i, (slope, error) in enumerate(plain):
        size = sum(abs(dropped[i][0]) for dropped in held) / (layers - 1)
        tolerance = sum(dropped[i][1] for dropped in held) / (layers - 1)
        # where the slope is nothing but rounding its sign, which the estimate takes, is open
        open_sign = 2 * size if abs(slope) <= error else 0.0
        found.append((-size if slope < 0 else size, tolerance + open_sign))
    return found


def _held(paths: PlainPaths, layer: int) -> Hooks:
    """Hooks that put the unpatched outputs of one layer in the place of any others."""
    return [
        (paths.hook(branch, layer), put(paths.read(paths.ids, branch)[layer]))
        for branch in BRANCHES
    ]
