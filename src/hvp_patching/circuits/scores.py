"""Scores of all edges of a model: what each one's corruption does to the metric (section 4.4).

The sign is that of this package's noising direction: a score estimates f(1) − f(0), the change of
m when the clean run's reader v receives the corrupted output of writer u. An edge that helps has a
*negative* score. The circuit benchmark differentiates −m instead: its scores are these times −1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch

from hvp_patching.circuits.edge_run import edge_run
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.methods import SCREEN, Method, Score, method_by_name
from hvp_patching.circuits.ungrouped import edge_model
from hvp_patching.isolation import isolated
from hvp_patching.models.identity import current_identity
from hvp_patching.paths.metric import AnyMetric, as_metric, logit_difference
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, no_progress
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pairs

Pairs = PromptPair | TokenPair | Iterable[PromptPair | TokenPair]


@dataclass(frozen=True)
class EdgeScores:
    """One score an edge, the mean over pairs, in the metric's units.

    matrix: float64 [n_writers, n_readers], 0 where `mask` says that there is no edge, or that none
    was asked for; by_pair: every pair's own scores, float64 [n_pairs, n_edges], edges in the
    order of `mask.nonzero()`; prompt_ids: the pairs' names; method, metric: their names; identity:
    that of the model's weights. `dataclasses.replace(scores, matrix=…)` makes scores of one's own.
    """

    matrix: torch.Tensor
    mask: torch.Tensor
    graph: EdgeGraph
    method: str
    metric: str
    by_pair: torch.Tensor
    prompt_ids: tuple[str, ...]
    identity: str

    @property
    def writers(self) -> tuple[str, ...]:
        """Names of the rows: input, a0.h0, …, m0, …"""
        return self.graph.writers

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of the columns: a0.h0<q>, …, m0, …, logits."""
        return self.graph.readers

    @cached_property
    def edges(self) -> pd.DataFrame:
        """The scored edges' names, columns writer and reader, in the order of `mask.nonzero()`."""
        rows, columns = self.mask.nonzero().T.tolist()
        names = {
            "writer": [self.writers[row] for row in rows],
            "reader": [self.readers[column] for column in columns],
        }
        return pd.DataFrame(names)

    def to_frame(self, by_pair: bool = False) -> pd.DataFrame:
        """One row an edge: writer, reader, score, method; with by_pair a prompt_id before them."""
        if not by_pair:
            scores = self.matrix[self.mask].numpy()
            return self.edges.assign(score=scores, method=self.method)
        frames = [
            self.edges.assign(score=scores.numpy(), method=self.method, prompt_id=name)
            for name, scores in zip(self.prompt_ids, self.by_pair, strict=True)
        ]
        columns = ["prompt_id", "writer", "reader", "score", "method"]
        return pd.concat(frames, ignore_index=True)[columns]


def edge_scores(
    model: Any,
    pairs: Pairs,
    method: str = "eap",
    metric: AnyMetric = logit_difference(),  # noqa: B008
    *,
    edges: Any = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
) -> EdgeScores:
    """Scores of a model's edges on some prompt pairs (section 4.4; methods in docs/circuits.md).

    method: eap, eap_ig_inputs_N, eap_ig_activations_N, hvp_own, hvp_reader, hvp_input, hvp_joint,
    ms_hvp_own_N, ms_hvp_input_N, ms_hvp_joint_N, ig_own_N, exact, hvp_input_flagged[_TAU],
    hvp_joint_flagged[_TAU], selective[_TAU],
    selective_input[_TAU], selective_joint[_TAU], selective_own_N or selective_exact_N.
    edges: all, or some: (writer, reader) names, 'input->m0', a table with columns writer and
    reader, or a mask; exact and all that is 'own' costs one or more passes an edge. memory: bytes
    for one pass; progress is called with the fraction of the work that was done.
    ValueError for an unknown method or edge, no pairs, a model whose attention has no hooks for
    single heads or whose residual stream is no plain sum, zero corruption, and as in path_jets.
    """
    found = all_edge_scores(model, pairs, [method], metric, edges, memory, progress)
    return found[method]


@isolated()
def all_edge_scores(
    model: Any,
    pairs: Pairs,
    methods: Sequence[str],
    metric: AnyMetric = logit_difference(),  # noqa: B008
    edges: Any = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
) -> dict[str, EdgeScores]:
    """Scores by several methods, which share the two runs of each pair. Else as edge_scores."""
    asked = {name: method_by_name(name) for name in methods}
    measure = as_metric(metric)
    tokens = as_token_pairs(model, pairs)
    if not tokens:
        raise ValueError("no prompt pairs given; scores of edges need at least one")
    graph = graph_of(model)
    mask = graph.select(edges)
    _check_counts(asked.values(), int(mask.sum()))
    plain: dict[str, tuple[Score, torch.Tensor]] = {
        name: (method.score, mask) for name, method in asked.items()
    }
    replacing = [method for method in asked.values() if method.fix is not None]
    if replacing:
        plain |= {SCREEN: (method_by_name(SCREEN).score, mask)}
    with edge_model(model) as found:
        options = (found, tokens, graph, measure, memory, progress)
        values = _measured(plain, *options)
        moves = {m.name: (values[SCREEN] - values[m.name]).mean(0) for m in replacing}
        chosen = {m.name: most_moved(moves[m.name], mask, m.replaced) for m in replacing}
        fixes = {m.name: (m.fix, chosen[m.name]) for m in replacing if m.fix is not None}
        for name, fixed in _measured(fixes, *options).items() if fixes else ():
            values[name][:, chosen[name][mask]] = fixed
    name = measure.readout(model, tokens[0]).name
    ids, identity = tuple(pair.prompt_id for pair in tokens), current_identity(model)
    scores = {}
    for each in asked:
        matrix = torch.zeros(mask.shape, dtype=torch.float64)
        matrix[mask] = values[each].mean(0)
        scores[each] = EdgeScores(matrix, mask, graph, each, name, values[each], ids, identity)
    return scores


def _check_counts(methods: Iterable[Method], n_edges: int) -> None:
    for method in methods:
        if method.replaced > n_edges:
            raise ValueError(
                f"method '{method.name}' replaces {method.replaced} edges, and there are {n_edges}"
            )


def _measured(
    scores: Mapping[str, tuple[Score, torch.Tensor]],
    model: Any,
    tokens: Sequence[TokenPair],
    graph: EdgeGraph,
    metric: AnyMetric,
    memory: int,
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Every pair's scores of the edges in each mask, float64 [n_pairs, n_edges]."""
    share = 1 / (len(tokens) * len(scores))
    found: dict[str, list[torch.Tensor]] = {name: [] for name in scores}
    for pair in tokens:
        run = edge_run(model, pair, graph, metric)
        for name, (score, mask) in scores.items():
            values = score(run, mask, memory, lambda fraction: progress(fraction * share))
            if not bool(values.isfinite().all()):
                raise ValueError(
                    f"method '{name}' gives scores that are not finite on {run.run.prompt}; load "
                    "the model in float64"
                )
            found[name].append(values)
    return {name: torch.stack(values) for name, values in found.items()}


def most_moved(difference: torch.Tensor, mask: torch.Tensor, n: int) -> torch.Tensor:
    """Mask of the n asked edges whose difference is largest in size; equal ones by their place.

    difference: [n_edges], of the edges of `mask` in its order.
    """
    order = difference.abs().argsort(descending=True, stable=True)
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[:n]] = True
    chosen = torch.zeros_like(mask)
    chosen[mask] = kept
    return chosen
