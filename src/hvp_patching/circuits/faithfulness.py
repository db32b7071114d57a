"""Faithfulness of circuits: how much of the metric the best edges recover, level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from hvp_patching.circuits.ablation import circuit_values, prove_ablation
from hvp_patching.circuits.edge_run import edge_run
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.scores import EdgeScores, Pairs
from hvp_patching.circuits.selection import circuit_of, prune
from hvp_patching.circuits.ungrouped import edge_model
from hvp_patching.isolation import isolated
from hvp_patching.metrics.faithfulness import LEVELS, areas, checked_levels, faithfulness_curve
from hvp_patching.models.identity import current_identity
from hvp_patching.paths.metric import AnyMetric, logit_difference
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, no_progress
from hvp_patching.prompts.pair import as_token_pairs


def faithfulness(
    model: Any,
    pairs: Pairs,
    scores: EdgeScores,
    levels: Sequence[float] = LEVELS,
    selection: str = "signed",
    metric: AnyMetric = logit_difference(),  # noqa: B008
    *,
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Faithfulness f of the best edges at each level: level, n_edges, n_kept, m…, f (Table 16).

    levels: fractions of the edges in (0, 1]; n_edges = int(level · edges) are chosen by `selection`
    ('signed': those that help most, 'absolute': the largest), n_kept are left by pruning. f = (m −
    m_corrupted) / (m_clean − m_corrupted) of means over the pairs, which need not be those of the
    scores. CPR, CMD and the average are in the frame's `attrs`, under cpr, cmd and average.
    ValueError for a level outside (0, 1], an unknown selection, scores of another model or of some
    edges only, clean and corrupted runs that the metric does not tell apart, and as in edge_scores.
    """
    found = checked_levels(levels)
    graph = graph_of(model)
    _check_scores(model, graph, scores)
    circuits = {
        level: circuit_of(graph, scores.matrix, level_size(graph, level), selection)
        for level in found
    }
    values = judged(model, pairs, circuits, metric, memory, progress)
    curve = faithfulness_curve(values.rename(columns={"circuit": "level"}))
    curve.attrs.update(areas(curve), selection=selection, method=scores.method)
    return curve


def level_size(graph: EdgeGraph, level: float) -> int:
    """Number of edges at a level: int(level · edges), as the benchmark rounds."""
    return int(level * graph.n_edges + 1e-9)  # 0.29 · 100 is 28.999…


def _check_scores(model: Any, graph: EdgeGraph, scores: EdgeScores) -> None:
    if not isinstance(scores, EdgeScores):
        raise ValueError(
            f"scores are what edge_scores returns, not {type(scores).__name__}; change their "
            "matrix by dataclasses.replace(scores, matrix=…)"
        )
    if scores.graph != graph or scores.identity != current_identity(model):
        raise ValueError(
            f"the scores are another model's ({scores.graph.n_edges} edges, weights "
            f"{scores.identity[:8]}); this one has {graph.n_edges} edges, weights "
            f"{current_identity(model)[:8]}: score its own edges"
        )
    if not torch.equal(scores.mask, graph.mask):
        raise ValueError(
            f"the scores are of {int(scores.mask.sum())} of {graph.n_edges} edges; a circuit is "
            "chosen from all, so score them with edges=None"
        )


@isolated()
def judged(
    model: Any,
    pairs: Pairs,
    circuits: Mapping[Any, torch.Tensor],
    metric: AnyMetric = logit_difference(),  # noqa: B008
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """m of circuits on every pair: prompt_id, circuit, n_edges, n_kept, m, m_clean, m_corrupted.

    circuits: masks of kept edges, bool [n_writers, n_readers], by their names; all are rows of the
    same passes, and the whole graph, whose m is the clean run's, takes none. Errors as in
    faithfulness.
    """
    tokens = as_token_pairs(model, pairs)
    if not tokens:
        raise ValueError("no prompt pairs given; circuits are judged on at least one")
    graph = graph_of(model)
    masks = {name: _circuit(graph, kept) for name, kept in circuits.items()}
    pruned = [prune(graph, kept) for kept in masks.values()]
    distinct, places = _distinct(graph, pruned)
    named = {
        "circuit": list(masks),
        "n_edges": [int(kept.sum()) for kept in masks.values()],
        "n_kept": [int(kept.sum()) for kept in pruned],
    }
    frames = []
    with edge_model(model) as found:
        for number, pair in enumerate(tokens):
            run = edge_run(found, pair, graph, metric)
            if number == 0:
                prove_ablation(run, memory)
            ends = {"m_clean": run.run.value, "m_corrupted": run.corrupted_value}
            known = torch.tensor(list(ends.values()), dtype=torch.float64)
            values = torch.cat([known, circuit_values(run, distinct, memory)])[places]
            frame = pd.DataFrame(named).assign(m=values.numpy(), **ends)
            frame.insert(0, "prompt_id", pair.prompt_id)
            frames.append(frame)
            progress(1 / len(tokens))
    return pd.concat(frames, ignore_index=True)


def _circuit(graph: EdgeGraph, kept: torch.Tensor) -> torch.Tensor:
    """A mask of kept edges, which may hold none; ValueError for what is no mask of this graph."""
    empty = isinstance(kept, torch.Tensor) and kept.shape == graph.mask.shape and not kept.any()
    return torch.zeros_like(graph.mask) if empty else graph.select(kept)


def _distinct(
    graph: EdgeGraph, circuits: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], list[int]]:
    """The circuits to be run, and where each one's m stands behind those of both prompts' runs."""
    known = {_key(graph.mask): 0, _key(torch.zeros_like(graph.mask)): 1}
    new: list[torch.Tensor] = []
    for kept in circuits:
        if _key(kept) not in known:
            known[_key(kept)] = 2 + len(new)
            new.append(kept)
    return new, [known[_key(kept)] for kept in circuits]


def _key(kept: torch.Tensor) -> bytes:
    return kept.numpy().tobytes()
