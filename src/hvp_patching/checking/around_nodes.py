"""One path around a node: what the differences of plain passes say of its derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from hvp_patching.checking.check import Comparison
from hvp_patching.checking.differences import OFFSETS, derivatives
from hvp_patching.checking.reference import FORWARD, path_sizes
from hvp_patching.checking.subject import Subject
from hvp_patching.paths.jets import Jets


def orders_of(jets: Jets) -> list[int]:
    """The highest order that was computed at every node."""
    return [int((~jets.values[:, i].isnan()).any(0).sum()) - 1 for i in range(len(jets.nodes))]


def steps_around(node: float, order: int) -> list[float]:
    """Where the path is run for derivatives up to an order."""
    return [node + by for by in (OFFSETS if order else OFFSETS[:1])]


def compared(
    subject: Subject,
    where: str,
    ours: Sequence[float] | torch.Tensor,
    f: torch.Tensor,
    logits: torch.Tensor,
    order: int,
) -> Iterator[Comparison]:
    """Our f, f', … against those of the metric f [n_steps] of the runs at ``steps_around``."""
    found = derivatives(f, order)
    tolerances = found.errors + subject.tolerance(path_sizes(logits, order))
    for k in range(order + 1):
        yield Comparison(
            f"{where}, order {k}",
            FORWARD,
            float(ours[k]),
            float(found.values[k]),
            float(tolerances[k]),
        )
