"""Sets of edges patched together: their joint effect, and what derivatives say of it.

A set is the path f(t) on which every reader sees, of the writers whose edges into it are in the
set, live + t · (corrupted − live) output. f(1) is the ablation that judges circuits, f'(0) the sum
of the edges' EAP scores, and f'' has the interactions of the edges that no sum of scores has. Every
quadrature rule of `estimators` applies, at one row a set and node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from hvp_patching.circuits.ablation import ablated_logits
from hvp_patching.circuits.edge_run import EdgeRun, edge_run
from hvp_patching.circuits.graph import graph_of
from hvp_patching.circuits.path_gradients import rows_per_pass
from hvp_patching.circuits.scores import Pairs
from hvp_patching.circuits.ungrouped import edge_model
from hvp_patching.estimators import by_name, required_jets
from hvp_patching.isolation import isolated
from hvp_patching.paths.jets import Jets
from hvp_patching.paths.metric import AnyMetric, derivatives, logit_difference
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, Request, chunks, no_progress
from hvp_patching.paths.run import check_met
from hvp_patching.paths.vector_hvp import ContiguousLinear
from hvp_patching.prompts.pair import as_token_pairs


@isolated()
def set_effects(
    model: Any,
    pairs: Pairs,
    sets: Mapping[Any, Any],
    rules: Sequence[str] = ("ap", "hvp", "ms_hvp_5"),
    metric: AnyMetric = logit_difference(),  # noqa: B008
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Joint effect of every set on every pair: prompt_id, set, n_edges, exact, a column a rule.

    sets: edges as edge_scores takes them, by names of one's own; rules: names of estimators. exact
    is f(1) − f(0), in the metric's units. Where a norm lies behind heads (Gemma), f'(0) is the
    slope through it and no sum of EAP scores. ValueError as in edge_scores, or an unknown rule.
    """
    asked = {name: by_name(name) for name in rules}
    request = required_jets(asked.values())
    request = dict(sorted({**request, 1.0: request.get(1.0, 0)}.items()))
    tokens, graph = as_token_pairs(model, pairs), graph_of(model)
    masks = {name: graph.select(edges) for name, edges in sets.items()}
    if not tokens or not masks:
        raise ValueError("no prompt pairs or no sets of edges given; give at least one of each")
    named = {"set": list(masks), "n_edges": [int(mask.sum()) for mask in masks.values()]}
    frames = []
    with edge_model(model) as found:
        for pair in tokens:
            run = edge_run(found, pair, graph, metric)
            jets = set_jets(run, list(masks.values()), request, memory)
            frame = pd.DataFrame(named).assign(exact=(jets.at(1.0, 0) - run.run.value).numpy())
            frame = frame.assign(**{name: rule(jets).numpy() for name, rule in asked.items()})
            frame.insert(0, "prompt_id", pair.prompt_id)
            frames.append(frame)
            progress(1 / len(tokens))
    return pd.concat(frames, ignore_index=True)


def set_jets(run: EdgeRun, sets: Sequence[torch.Tensor], request: Request, memory: int) -> Jets:
    """f and its derivatives along the path of every set (a mask), at the request's nodes."""
    values = torch.full((len(sets), len(request), max(request.values()) + 1), torch.nan)
    values = values.double()
    for place, (node, order) in enumerate(request.items()):
        size = rows_per_pass(run, max(1, order), memory)
        for chunk in chunks(range(len(sets)), size):
            masks = torch.stack([sets[number] for number in chunk])
            found = _pass(run, masks.to(run.delta), node, order)
            values[list(chunk), place, : order + 1] = found
    return Jets(values, tuple(request), pd.DataFrame({"index": range(len(sets))}))


def _pass(run: EdgeRun, masks: torch.Tensor, node: float, order: int) -> torch.Tensor:
    """One row a set: [n_sets, order + 1]."""
    t = masks.new_full((len(masks), 1, 1), node).requires_grad_(order > 0)
    with torch.set_grad_enabled(order > 0), DecomposedLayerNorm(), ContiguousLinear():
        m = run.run.metric(ablated_logits(run, masks * t))
        if node == 0:
            check_met(run.run, m.detach(), "a pass in which every edge is live")
        columns = derivatives(m, t, order)
    return torch.stack([column.detach().double() for column in columns], -1).cpu()
