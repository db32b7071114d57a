"""Check of patches that are no site's, such as features: finite differences of plain passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hvp_patching.checking.check import Check, Comparison
from hvp_patching.checking.differences import OFFSETS, derivatives
from hvp_patching.checking.plain import Move
from hvp_patching.checking.reference import FORWARD, path_sizes
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
    orders = [int((~jets.values[:, i].isnan()).any(0).sum()) - 1 for i in range(len(jets.nodes))]
    rows = [(i, node) for i in range(len(made)) for node in range(len(jets.nodes))]

    def verify(chosen: Sequence[PatchRow]) -> Iterator[Comparison]:
        for number, place in chosen:
            patch, node, order = made[number], jets.nodes[place], orders[place]
            paths = subject.paths_at(patch.hook.rpartition("hook_")[2])
            shift = patch.direction.to(paths.a[patch.layer])
            offsets = OFFSETS if order else OFFSETS[:1]
            logits = paths.logits([Move(patch.layer, (node + by) * shift) for by in offsets])
            found = derivatives(paths.metric(logits), order)
            tolerances = found.errors + subject.tolerance(path_sizes(logits, order))
            where = f"{subject.prompt}, layer {patch.layer}, index {patch.index}, node {node:g}"
            for k in range(order + 1):
                yield Comparison(
                    f"{where}, order {k}",
                    FORWARD,
                    float(jets.values[number, place, k]),
                    float(found.values[k]),
                    float(tolerances[k]),
                )

    check.rows(subject.prompt, rows, verify)
