"""Check of patches that are no site's, such as features: finite differences of plain passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hvp_patching.checking.around_nodes import compared, orders_of, steps_around
from hvp_patching.checking.check import Check, Comparison
from hvp_patching.checking.plain import Move
from hvp_patching.checking.subject import Subject
from hvp_patching.paths.jets import Jets
from hvp_patching.paths.patches import Patch

PatchRow = tuple[int, int]  # number of the patch, number of the node


def check_patches(
    check: Check, subject: Subject, patches: Callable[[], Sequence[Patch]], jets: Jets
) -> None:
    """Derivatives along patches of the whole residual stream; a row is a patch at a node.

    patches: gives those of the jets, in their order, with directions over the whole prompt; asked
    for only if something is checked. CheckFailed as in check_jets.
    """
    if not check.on:
        return
    made = list(patches())
    orders = orders_of(jets)
    rows = [(i, node) for i in range(len(made)) for node in range(len(jets.nodes))]

    def verify(chosen: Sequence[PatchRow]) -> Iterator[Comparison]:
        for number, place in chosen:
            patch, node, order = made[number], jets.nodes[place], orders[place]
            paths = subject.paths_at(patch.hook.rpartition("hook_")[2])
            shift = patch.direction.to(paths.a[patch.layer])
            steps = steps_around(node, order)
            logits = paths.logits([Move(patch.layer, step * shift) for step in steps])
            where = f"{subject.prompt}, layer {patch.layer}, index {patch.index}, node {node:g}"
            ours = jets.values[number, place]
            yield from compared(subject, where, ours, paths.metric(logits), logits, order)

    check.rows(subject.prompt, rows, verify)
