"""Check of joint paths: finite differences of plain forward passes in which whole sets move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from hvp_patching.checking.around_nodes import compared, orders_of, steps_around
from hvp_patching.checking.check import Check, Comparison
from hvp_patching.checking.plain import Move, PlainPaths
from hvp_patching.checking.subject import Subject
from hvp_patching.paths.jets import Jets
from hvp_patching.paths.joint import Members

SetRow = tuple[int, int]  # number of the set, number of the node


def check_joint(
    check: Check,
    subject: Subject,
    sets: Sequence[Members],
    jets: Jets,
    foil_ids: Sequence[int] = (),
) -> None:
    """Derivatives along the joint paths of sets at the subject's site; a row is a set at a node.

    jets: of the sets, in their order. foil_ids: those of a logit difference, none for the
    log-probability. CheckFailed as in check_jets.
    """
    orders = orders_of(jets)
    rows = [(number, place) for number in range(len(sets)) for place in range(len(jets.nodes))]

    def verify(chosen: Sequence[SetRow]) -> Iterator[Comparison]:
        for number, place in chosen:
            members, node, order = sets[number], jets.nodes[place], orders[place]
            logits = _logits(subject.paths, members, steps_around(node, order))
            where = f"{subject.prompt}, set of {_named(members)}, node {node:g}"
            f = _metric(subject.paths, logits, foil_ids)
            yield from compared(subject, where, jets.values[number, place], f, logits, order)

    check.rows(subject.prompt, rows, verify)


def _named(members: Members) -> str:
    first = ", ".join(map(str, members[:3]))
    return f"{len(members)} ({first}{', …' * (len(members) > 3)})"


def _logits(paths: PlainPaths, members: Members, steps: Sequence[float]) -> torch.Tensor:
    """Last-position logits of the runs at these steps of the joint path, [n_steps, vocabulary]."""
    parts = []
    for start in range(0, len(steps), paths.rows_per_batch):
        batch = torch.tensor(steps[start : start + paths.rows_per_batch], dtype=torch.float64)
        hooks = [
            (paths.hook(paths.site, layer), _towards(paths, layer, own, batch.to(paths.ids.device)))
            for layer in sorted({layer for layer, _ in members})
            for own in [[index for at, index in members if at == layer]]
        ]
        still = [Move(0, torch.zeros_like(paths.a[0]))] * len(batch)
        parts.append(paths.logits(still, hooks))
    return torch.cat(parts)


def _towards(
    paths: PlainPaths, layer: int, indices: Sequence[int], steps: torch.Tensor
) -> Callable[..., Any]:
    ones = torch.ones_like(paths.a[layer])
    mask = sum((paths.component(layer, index, ones) for index in indices), torch.zeros_like(ones))
    goal = paths.a[layer] + paths.delta[layer]

    def hook(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        t = steps.view(-1, *[1] * (activation.ndim - 1))
        return activation + t * mask * (goal - activation)

    return hook


def _metric(paths: PlainPaths, logits: torch.Tensor, foil_ids: Sequence[int]) -> torch.Tensor:
    if not foil_ids:
        return paths.metric(logits)
    chosen = logits[:, paths.targets.cpu()].logsumexp(-1)
    return chosen - logits[:, list(foil_ids)].logsumexp(-1)
