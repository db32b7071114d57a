"""One path an edge: a row of a batch patches a single edge, exactly or by its own derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hvp_patching.circuits.edge_run import EdgeRun
from hvp_patching.estimators import Estimator
from hvp_patching.paths.autograd import autograd_jets
from hvp_patching.paths.jets import Jets
from hvp_patching.paths.patches import Patch, patch_table
from hvp_patching.paths.rows import Progress, Request, no_progress
from hvp_patching.paths.vector_hvp import vector_products

Edges = Sequence[tuple[int, int]]  # rows and columns of the matrix of scores


def edge_jets(
    run: EdgeRun, edges: Edges, request: Request, memory: int, progress: Progress = no_progress
) -> Jets:
    """f and its derivatives along every edge's own path, a_v + tδ_u at the reader alone."""
    patches = run.patches(edges)
    recorded = run.at(list(dict.fromkeys(patch.hook for patch in patches)))
    values = autograd_jets(recorded, patches, request, memory, progress)
    return Jets(values, tuple(request), patch_table(patches))


def exact_effects(
    run: EdgeRun, edges: Edges, memory: int, progress: Progress = no_progress
) -> torch.Tensor:
    """f(1) − f(0) of patching every edge alone, float64 [n_edges]."""
    jets = edge_jets(run, edges, {1.0: 0}, memory, progress)
    return jets.at(1.0, 0) - run.run.value


def own_estimates(
    run: EdgeRun,
    edges: Edges,
    rule: Estimator,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """A rule over every edge's own path: HVP is δ_u·g_v + ½ δ_uᵀ H_vv δ_u, float64 [n_edges]."""
    return rule(edge_jets(run, edges, rule.request(), memory, progress))


def reader_curvatures(
    run: EdgeRun, columns: Sequence[int], memory: int, progress: Progress = no_progress
) -> torch.Tensor:
    """H_vv δ_v of readers, δ_v the whole change of each, float64 [n_columns, n_suffix · d]."""
    patches = []
    for number, column in enumerate(columns):
        hook, part, layer = run.graph.place(column)
        before = int(run.graph.mask[:, column].sum())
        patches.append(Patch(hook, layer, run.reader_delta(before), part, number))
    recorded = run.at(list(dict.fromkeys(patch.hook for patch in patches)))
    found = vector_products(recorded, patches, (0.0,), memory, progress)
    return found.products[:, 0].flatten(1)
