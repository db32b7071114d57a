"""Backend 'tangent': f, f' and f'' at t = 0 from first-order tangents and one reverse pass.

    f'' = Σ over non-linear operations m of ⟨g_m, D²f_m[v, v]⟩

g_m: the adjoint of the operation's output in the unpatched run, shared by all rows; v: the tangent
of its input in a row. The second Taylor coefficient is never carried. At t > 0 the adjoints differ
from row to row, so that t = 0 and order 2 are as far as this goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from hvp_patching.failures import architecture
from hvp_patching.paths.adjoints import Adjoints, adjoints
from hvp_patching.paths.metric import Readout, composed
from hvp_patching.paths.patches import Patch
from hvp_patching.paths.precision import tolerance
from hvp_patching.paths.rows import (
    Pass,
    Progress,
    Request,
    Row,
    by_hook,
    chunks,
    directions,
    gather,
    make_rows,
    no_progress,
)
from hvp_patching.paths.run import BaseRun, check_met
from hvp_patching.paths.taylor import TaylorTensor, UnsupportedOperation
from hvp_patching.paths.taylor.passes import (
    blocks,
    check_finite,
    logits_as_joined,
    places,
    rows_per_pass,
    supported,
)

HIGHEST = 2
WHO = "the tangent backend"


def tangent_jets(
    run: BaseRun,
    patches: Sequence[Patch],
    request: Request,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets [n_patches, 1, order + 1] at t = 0, where f' is proven by a reverse pass.

    ValueError for another node or a higher order. UnsupportedOperation where an operation's second
    derivative is not known, or f(0) or f' are not found again.
    """
    check_reach(request)
    return gather(patches, request, _passes(run, patches, request[0.0], memory), progress)


def check_reach(request: Request) -> None:
    """ValueError for a node other than 0, or an order above 2."""
    for node, order in request.items():
        if node != 0.0 or order > HIGHEST:
            raise ValueError(
                f"backend 'tangent' reaches order {HIGHEST} at node 0, not order {order} at node "
                f"{node:g}; choose backend 'auto'"
            )


def _passes(run: BaseRun, patches: Sequence[Patch], order: int, memory: int) -> Iterator[Pass]:
    for chunk in chunks(make_rows(patches, [0.0]), rows_per_pass(run, 1, memory)):
        with supported(run, WHO):
            jets = _pass(run, chunk)
            check_finite(jets, WHO)
        yield chunk, jets[:, : order + 1]


def _pass(run: BaseRun, rows: Sequence[Row]) -> torch.Tensor:
    """One reverse pass and one pass of tangents: jets [n_rows, 3]."""
    base = adjoints(run, by_hook(rows))
    tape = base.model.contracting()
    with tape.running():
        logits, joined = logits_as_joined(run, rows, order=1, shared=True)
    curvature = tape.finished(len(rows), logits.device)
    jets = _metric_jets(logits, base, run.metric)
    jets[:, 2] += curvature.cpu()
    check_met(run, jets[:1, 0], WHO)
    _check_slopes(run, joined, base, jets[:, 1])
    return jets[places(rows, joined)]


def _metric_jets(logits: TaylorTensor, base: Adjoints, metric: Readout) -> torch.Tensor:
    """f, f' and the metric's own part of f'' of every row, float64 [n_rows, 3], on the CPU."""
    parts = []
    for v in blocks(logits):
        rows = v.shape[1]
        if not metric.polynomial:
            jet = composed(metric, logits.c0, torch.cat([v, torch.zeros_like(v)]))
            parts.append(jet * jet.new_tensor([1.0, 1.0, 2.0]))
            continue
        tape = base.metric.contracting()
        with torch.no_grad(), tape.running():
            m = metric(TaylorTensor(logits.c0, v, rows))
        bend = tape.finished(rows, v.device)
        parts.append(torch.stack([m.c0.expand(rows), m.higher[0], bend], dim=1))
    return torch.cat(parts).cpu()


def _check_slopes(run: BaseRun, rows: Sequence[Row], base: Adjoints, slopes: torch.Tensor) -> None:
    """UnsupportedOperation unless f' of every row is the gradient at its hook times δ.

    Up to rounding: of tiny models in float32, a sixth of the tolerance was seen.
    """
    reverse, sizes = [], []
    for name, members in by_hook(rows).items():
        delta = directions(members, run.base[run.names.index(name)], run.start).flatten(1)
        gradient = base.sites[name].flatten()
        reverse.append(delta @ gradient)
        # every entry of a gradient is rounded relative to the largest ones
        sizes.append(delta.abs().sum(1) * gradient.abs().max())
    expected, size = (torch.cat(parts).double().cpu() for parts in (reverse, sizes))
    off = (slopes - expected).abs()
    bad = ~(off <= tolerance(run.model.cfg.dtype) * size)
    if bool(bad.any()):
        worst = int((off / size).nan_to_num(torch.inf).argmax())
        raise UnsupportedOperation(
            f"{WHO} gives f' = {float(slopes[worst]):.6g} of component "
            f"{rows[worst].patch.label} of {architecture(run.model)} by its tangents and "
            f"{float(expected[worst]):.6g} by a reverse pass"
        )
