"""Scores of edges, and circuits judged by them, prompt by prompt through the store (Table 16).

A setting's prompts are cut in two: edges are scored on the first half, circuits are judged on the
other. A killed run goes on where it was: every prompt's scores and judgements are entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from hvp_patching.cache import PromptKey, Store, prompt_fields, remember
from hvp_patching.checking import Subject
from hvp_patching.circuits.faithfulness import judged, level_size
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.methods import method_by_name
from hvp_patching.circuits.scores import all_edge_scores
from hvp_patching.circuits.selection import SELECTIONS, circuit_of, prune
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.metrics.faithfulness import LEVELS, checked_levels
from hvp_patching.paths.metric import logit_difference
from hvp_patching.store import Entry

EDGES = "edges"  # the site of these entries' keys
EDGES_VERSION = 1


@dataclass(frozen=True)
class EdgeKey(PromptKey):
    """Everything that one prompt's scores of all edges by one method depend on."""

    method: str
    version: int = EDGES_VERSION


@dataclass(frozen=True)
class CircuitKey(PromptKey):
    """Everything that m of circuits on one prompt depends on; circuits: sha256 of their masks."""

    circuits: str
    version: int = EDGES_VERSION


def halves(measurement: Measurement) -> tuple[Measurement, Measurement]:
    """The prompts on which edges are scored, and those on which circuits are judged.

    ValueError for fewer than two prompts.
    """
    prompts = measurement.prompts
    if len(prompts) < 2:
        raise ValueError(
            f"{len(prompts)} prompt cannot both score edges and judge circuits; ask for at least 2"
        )
    middle = len(prompts) // 2
    first, second = (replace(measurement, prompts=p) for p in (prompts[:middle], prompts[middle:]))
    return first, second


def measure_edges(measurement: Measurement, store: Store, methods: Sequence[str]) -> pd.DataFrame:
    """Mean scores over the prompts: writer, reader, method, score (logits), n_prompts.

    ValueError for a method that chooses edges by all prompts together, which no entry of one
    prompt can hold, and as in edge_scores.
    """
    _check_methods(methods)
    m, metric = measurement, logit_difference()
    totals: dict[str, torch.Tensor] = {}
    for subject in m.each():
        fields = prompt_fields(m.model, subject.tokens, EDGES, "noising", metric)
        keys: dict[str, PromptKey] = {name: EdgeKey(**fields, method=name) for name in methods}

        def compute(missing: Sequence[str], subject: Subject = subject) -> dict[str, Entry]:
            found = all_edge_scores(
                m.model, subject.tokens, missing, metric, None, m.memory, m.advance
            )
            return {name: {"scores": scores.by_pair[0]} for name, scores in found.items()}

        entries, _ = remember(store, keys, m.model, compute)
        for name in methods:
            totals[name] = totals.get(name, 0) + entries[name]["scores"]
    graph = graph_of(m.model)
    rows, columns = graph.mask.nonzero().T.tolist()
    names = pd.DataFrame(
        {
            "writer": [graph.writers[row] for row in rows],
            "reader": [graph.readers[column] for column in columns],
        }
    )
    n = len(m.prompts)
    frames = [
        names.assign(method=name, score=(totals[name] / n).numpy(), n_prompts=n) for name in methods
    ]
    return pd.concat(frames, ignore_index=True)


def measure_faithfulness(
    measurement: Measurement,
    store: Store,
    scores: pd.DataFrame,
    levels: Sequence[float] = LEVELS,
    selections: Sequence[str] = SELECTIONS,
) -> pd.DataFrame:
    """m of every method's circuits, prompt by prompt.

    scores: the table of measure_edges. Columns: prompt_id, method, selection, level, n_edges,
    n_kept, m, m_clean, m_corrupted, the latter three in logits. ValueError for scores of another
    graph, and as in faithfulness.
    """
    m, graph, metric = measurement, graph_of(measurement.model), logit_difference()
    circuits = {
        (str(method), selection, level): circuit_of(
            graph, score_matrix(graph, own), level_size(graph, level), selection
        )
        for method, own in scores.groupby("method", sort=False)
        for selection in selections
        for level in checked_levels(levels)
    }
    named = pd.DataFrame(list(circuits), columns=["method", "selection", "level"])
    named["n_edges"] = [int(kept.sum()) for kept in circuits.values()]
    named["n_kept"] = [int(prune(graph, kept).sum()) for kept in circuits.values()]
    content = hashlib.sha256(torch.stack(list(circuits.values())).numpy().tobytes()).hexdigest()

    def measure(subject: Subject) -> pd.DataFrame:
        fields = prompt_fields(m.model, subject.tokens, EDGES, "noising", metric)

        def compute(missing: Sequence[str]) -> dict[str, Entry]:
            numbered = dict(enumerate(circuits.values()))
            found = judged(m.model, subject.tokens, numbered, metric, m.memory, m.advance)
            columns = ("m", "m_clean", "m_corrupted")
            return {"": {name: torch.tensor(found[name].to_numpy()) for name in columns}}

        key = CircuitKey(**fields, circuits=content)
        entries, _ = remember(store, {"": key}, m.model, compute)
        return named.assign(**{name: column.numpy() for name, column in entries[""].items()})

    return m.table(measure)


def score_matrix(graph: EdgeGraph, scores: pd.DataFrame) -> torch.Tensor:
    """One method's scores as a matrix, float64 [n_writers, n_readers]; ValueError if of others."""
    if len(scores) != graph.n_edges or not torch.equal(graph.select(scores), graph.mask):
        raise ValueError(
            f"the scores are of {len(scores)} edges where the graph has {graph.n_edges}; score all "
            "edges of this model"
        )
    rows = {name: row for row, name in enumerate(graph.writers)}
    columns = {name: column for column, name in enumerate(graph.readers)}
    matrix = torch.zeros(graph.mask.shape, dtype=torch.float64)
    places = [scores["writer"].map(rows).to_list(), scores["reader"].map(columns).to_list()]
    matrix[places[0], places[1]] = torch.tensor(scores["score"].to_numpy(float))
    return matrix


def _check_methods(methods: Sequence[str]) -> None:
    for name in methods:
        if method_by_name(name).fix is not None:
            raise ValueError(
                f"method '{name}' chooses its edges by all prompts together and cannot be stored "
                "prompt by prompt; use edge_scores"
            )
