"""Scores of edges, and circuits judged by them, prompt by prompt through the store (Table 16).

A setting's prompts are cut in two: edges are scored on the first half, circuits are judged on the
other. A killed run goes on where it was: every prompt's scores and judgements are entries.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from hvp_patching.cache import PromptKey, Store, prompt_fields, remember
from hvp_patching.checking import Subject
from hvp_patching.circuits.faithfulness import judged, level_size
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.method_names import REPLACING, replaces, split_name
from hvp_patching.circuits.methods import SCREEN
from hvp_patching.circuits.scores import all_edge_scores, most_moved
from hvp_patching.circuits.selection import SELECTIONS, circuit_of, prune
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.metrics.faithfulness import LEVELS, checked_levels
from hvp_patching.paths.metric import logit_difference
from hvp_patching.paths.rows import Progress, no_progress
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.store import Entry

EDGES = "edges"  # the site of these entries' keys
EDGES_VERSION = 1
JUDGED = ("m", "m_clean", "m_corrupted")
FIXES = {"selective_own": "hvp_own", "selective_exact": "exact"}


@dataclass(frozen=True)
class EdgeKey(PromptKey):
    """Everything that one prompt's scores of all edges by one method depend on."""

    method: str
    version: int = EDGES_VERSION


@dataclass(frozen=True)
class SomeEdgesKey(EdgeKey):
    """Likewise of some edges; edges: sha256 of their mask."""

    edges: str = ""


@dataclass(frozen=True)
class CircuitKey(PromptKey):
    """Everything that m of circuits on one prompt depends on; circuits: sha256 of their masks."""

    circuits: str
    version: int = EDGES_VERSION


def halves(measurement: Measurement) -> tuple[Measurement, Measurement]:
    """The prompts on which edges are scored, and those on which circuits are judged; one model.

    ValueError for fewer than two prompts.
    """
    prompts = measurement.prompts
    if len(prompts) < 2:
        raise ValueError(
            f"{len(prompts)} prompt cannot both score edges and judge circuits; ask for at least 2"
        )

    def load(dtype: str, **options: Any) -> Any:
        own = dtype == measurement.dtype and not options
        return measurement.model if own else measurement.load(dtype, **options)

    middle = len(prompts) // 2
    parts = (prompts[:middle], prompts[middle:])
    first, second = (replace(measurement, load=load, prompts=part) for part in parts)
    return first, second


def edge_passes(methods: Sequence[str]) -> int:
    """How often `measure_edges` goes through its prompts: again, to replace chosen edges."""
    return 1 + any(replaces(name) for name in methods)


def measure_edges(measurement: Measurement, store: Store, methods: Sequence[str]) -> pd.DataFrame:
    """Mean scores over the prompts: writer, reader, method, score (logits), n_prompts.

    selective_own_N and selective_exact_N choose their edges by the means over all prompts.
    ValueError as in edge_scores.
    """
    graph, n = graph_of(measurement.model), len(measurement.prompts)
    means = mean_scores(measurement, store, methods)
    rows, columns = graph.mask.nonzero().T.tolist()
    names = pd.DataFrame(
        {
            "writer": [graph.writers[row] for row in rows],
            "reader": [graph.readers[column] for column in columns],
        }
    )
    frames = [names.assign(method=name, score=means[name].numpy(), n_prompts=n) for name in methods]
    return pd.concat(frames, ignore_index=True)


def mean_scores(
    measurement: Measurement, store: Store, methods: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Each method's mean over the prompts, float64 [n_edges] in the order of the graph's mask."""
    m, replacing = measurement, {name: replaces(name) for name in methods if replaces(name)}
    plain = [name for name in methods if name not in replacing]
    if replacing:
        plain = list(dict.fromkeys([*plain, "eap", SCREEN]))
    totals: dict[str, torch.Tensor] = {}
    for subject in m.each():
        found = stored_scores(m, store, subject.tokens, plain, m.advance)
        totals = {name: totals.get(name, 0) + scores for name, scores in found.items()}
    means = {name: total / len(m.prompts) for name, total in totals.items()}
    return means | (_replaced(m, store, replacing, means) if replacing else {})


def _replaced(
    measurement: Measurement,
    store: Store,
    replacing: Mapping[str, int],
    means: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """EAP's means, and those of the correction at the edges that EAP-IG moves most."""
    m, mask = measurement, graph_of(measurement.model).mask
    moved = means[SCREEN] - means["eap"]
    fixes = {name: FIXES[split_name(name)[0]] for name in replacing}
    chosen = {n: most_moved(moved, mask, n) for n in replacing.values()}
    found = {name: means["eap"].clone() for name in replacing}
    for name, n in replacing.items():
        found[name][chosen[n][mask]] = 0
    for number, tokens in enumerate(m.prompts, 1):
        logging.info("%s: chosen edges (%d of %d)", tokens.prompt_id, number, len(m.prompts))
        for n, edges in chosen.items():
            asked = {name: fix for name, fix in fixes.items() if replacing[name] == n}
            scores = stored_scores(m, store, tokens, list(asked.values()), edges=edges)
            for name, fix in asked.items():
                found[name][edges[mask]] += scores[fix] / len(m.prompts)
        m.progress(1)
    return found


def stored_scores(
    measurement: Measurement,
    store: Store,
    tokens: TokenPair,
    methods: Sequence[str],
    progress: Progress = no_progress,
    edges: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """One prompt's scores through the store, float64 [n_edges]; edges: a mask, or None for all.

    They are kept as the model computes: float32 has what there is to a float32 model's scores.
    """
    m, metric = measurement, logit_difference()
    _check_methods(methods)
    fields = prompt_fields(m.model, tokens, EDGES, "noising", metric)
    kind = EdgeKey if edges is None else SomeEdgesKey
    if edges is not None:
        fields |= {"edges": digest_of(edges)}
    keys: dict[str, PromptKey] = {name: kind(**fields, method=name) for name in methods}

    def compute(missing: Sequence[str]) -> dict[str, Entry]:
        found = all_edge_scores(m.model, tokens, missing, metric, edges, m.memory, progress)
        dtype = m.model.cfg.dtype
        return {name: {"scores": scores.by_pair[0].to(dtype)} for name, scores in found.items()}

    entries, _ = remember(store, keys, m.model, compute)
    return {name: entries[name]["scores"].double() for name in methods}


def digest_of(masks: torch.Tensor) -> str:
    """sha256 of masks of edges, which names them in a key."""
    return hashlib.sha256(masks.numpy().tobytes()).hexdigest()


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
    graph = graph_of(measurement.model)
    matrices = {
        str(method): score_matrix(graph, own)
        for method, own in scores.groupby("method", sort=False)
    }
    return judge_scores(measurement, store, matrices, levels, selections)


def judge_scores(
    measurement: Measurement,
    store: Store,
    matrices: Mapping[str, torch.Tensor],
    levels: Sequence[float] = LEVELS,
    selections: Sequence[str] = SELECTIONS,
) -> pd.DataFrame:
    """The same for scores as matrices, float64 [n_writers, n_readers], by their names."""
    m, graph, metric = measurement, graph_of(measurement.model), logit_difference()
    circuits = {
        (name, selection, level): circuit_of(graph, matrix, level_size(graph, level), selection)
        for name, matrix in matrices.items()
        for selection in selections
        for level in checked_levels(levels)
    }
    named = pd.DataFrame(list(circuits), columns=["method", "selection", "level"])
    named["n_edges"] = [int(kept.sum()) for kept in circuits.values()]
    named["n_kept"] = [int(prune(graph, kept).sum()) for kept in circuits.values()]
    content = digest_of(torch.stack(list(circuits.values())))

    def measure(subject: Subject) -> pd.DataFrame:
        fields = prompt_fields(m.model, subject.tokens, EDGES, "noising", metric)

        def compute(missing: Sequence[str]) -> dict[str, Entry]:
            numbered = dict(enumerate(circuits.values()))
            found = judged(m.model, subject.tokens, numbered, metric, m.memory, m.advance)
            return {"": {name: torch.tensor(found[name].to_numpy()) for name in JUDGED}}

        key = CircuitKey(**fields, circuits=content)
        entries, _ = remember(store, {"": key}, m.model, compute)
        return named.assign(**{name: entries[""][name].numpy() for name in JUDGED})

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
        if split_name(name)[0] in REPLACING:
            raise ValueError(
                f"method '{name}' chooses its edges by all prompts together and is no score of one"
            )


def no_edges() -> pd.DataFrame:
    """The table of measure_edges without a row: for a model that does not do the task."""
    return _empty(writer="str", reader="str", method="str", score="float64", n_prompts="int64")


def no_circuits() -> pd.DataFrame:
    """The table of measure_faithfulness without a row, likewise."""
    return _empty(
        **dict.fromkeys(("prompt_id", "method", "selection"), "str"),
        level="float64",
        **dict.fromkeys(("n_edges", "n_kept"), "int64"),
        **dict.fromkeys(JUDGED, "float64"),
    )


def _empty(**kinds: str) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
