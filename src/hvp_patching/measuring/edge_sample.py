"""Every method against exact patching on a sample of edges (rule compute_edge_sample).

One stopwatch a method and prompt. Prompts are entries of the store, the seconds with them: a key
names the processor and the threads, so that no other machine's seconds are served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from hvp_patching.cache import PromptKey, Store, prompt_fields, remember
from hvp_patching.checking import Subject
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.method_names import replaces, unit_of
from hvp_patching.circuits.sampling import ONE, ONE_EDGE, sample_edges
from hvp_patching.circuits.timed import timed_scores
from hvp_patching.measuring.edges import EDGES, digest_of, stored_scores
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.models.environment import current_environment
from hvp_patching.paths.metric import logit_difference
from hvp_patching.paths.rows import Progress
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.store import Entry

TIMED_VERSION = 1
EXACT, EAP = "exact", "eap"
OF_ONE = ("ms_hvp_own_5", "ig_own_10")  # scored on the one edge alone
ENDS = ["writer", "reader"]


@dataclass(frozen=True)
class TimedKey(PromptKey):
    """Everything that a method's scores of some edges of one prompt, and its seconds, depend on.

    edges: sha256 of their mask; place: processor and threads.
    """

    method: str
    edges: str
    place: str
    version: int = TIMED_VERSION


def measure_edge_sample(
    measurement: Measurement,
    store: Store,
    methods: Sequence[str],
    per_stratum: int,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame ``edge_sample``: one row a prompt, sampled edge and method, effects in logits.

    ValueError for a method whose edges are chosen by all prompts together, and as in sample_edges
    and edge_scores.
    """
    m, asked = measurement, _checked(methods)
    graph = graph_of(m.model)
    one = graph.select([ONE_EDGE])

    def measure(subject: Subject) -> pd.DataFrame:
        tokens = subject.tokens
        ranking = stored_scores(m, store, tokens, [EAP])[EAP]
        sample = sample_edges(graph, ranking, per_stratum, seed, tokens.prompt_id)
        mask = graph.select(sample[ENDS].drop_duplicates())
        alone = [name for name in OF_ONE if name not in asked]
        masks = dict.fromkeys(asked, mask) | dict.fromkeys(alone, one)
        timed = {name: (name, edges) for name, edges in masks.items()}
        found, captures = stored_timed_scores(m, store, tokens, timed, m.advance)
        frames = []
        for name, edges in masks.items():
            kept = sample if name in asked else sample[sample["stratum"] == ONE]
            own = _scored(graph, name, edges, *found[name])
            frames.append(kept.merge(own, on=ENDS, validate="many_to_one"))
        return _with_exact(pd.concat(frames, ignore_index=True)).assign(
            captures=captures, n_edges=graph.n_edges, place=place_text(m.model)
        )

    return m.table(measure)


def _checked(methods: Sequence[str]) -> list[str]:
    """Exact patching and EAP, against which others are set, then the asked ones, each once."""
    for name in methods:
        if replaces(name):
            raise ValueError(
                f"method '{name}' chooses its edges by all prompts together, and a sample has them "
                "already; leave it out"
            )
    return list(dict.fromkeys([EXACT, EAP, *methods]))


def _scored(
    graph: EdgeGraph, name: str, edges: torch.Tensor, scores: torch.Tensor, seconds: float
) -> pd.DataFrame:
    """One method's edges: their scores, and what its price is counted by."""
    rows, columns = edges.nonzero().T.tolist()
    per = unit_of(name)
    n_edges, n_readers = int(edges.sum()), int(edges.any(0).sum())
    by_edge, by_reader = (n_edges, graph.n_edges), (n_readers, len(graph.readers))
    counts = {"edge": by_edge, "flagged": by_edge, "reader": by_reader}
    n_scored, n_units = counts.get(per, (1, 1))
    return pd.DataFrame(
        {
            "writer": [graph.writers[row] for row in rows],
            "reader": [graph.readers[column] for column in columns],
            "method": name,
            "edge_score": scores.numpy(),
            "per": per,
            "n_scored": n_scored,
            "n_units": n_units,
            "seconds": seconds,
        }
    )


def _with_exact(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with their edges' exact effects beside."""
    exact = table[table["method"] == EXACT].drop_duplicates(ENDS)
    return table.join(exact.set_index(ENDS)["edge_score"].rename("exact"), on=ENDS)


def stored_timed_scores(
    measurement: Measurement,
    store: Store,
    tokens: TokenPair,
    asked: Mapping[str, tuple[str, Any]],
    progress: Progress,
) -> tuple[dict[str, tuple[torch.Tensor, float]], float]:
    """timed_scores through the store: scores and seconds by name, and the captures' seconds.

    asked: names -> (method, mask of edges). The captures are those before the first of them.
    """
    m, metric = measurement, logit_difference()
    fields = prompt_fields(m.model, tokens, EDGES, "noising", metric)
    fields |= {"place": place_text(m.model)}
    keys: dict[str, PromptKey] = {
        name: TimedKey(**fields, method=method, edges=digest_of(edges))
        for name, (method, edges) in asked.items()
    }

    def compute(missing: Sequence[str]) -> dict[str, Entry]:
        chosen = {name: asked[name] for name in missing}
        found = timed_scores(m.model, tokens, chosen, metric, m.memory, progress)
        return {
            name: {"scores": timed.scores, "seconds": _number(timed.seconds)}
            | {"captures": _number(found.captures)}
            for name, timed in found.methods.items()
        }

    entries, _ = remember(store, keys, m.model, compute)
    found = {name: (entry["scores"], float(entry["seconds"])) for name, entry in entries.items()}
    return found, float(next(iter(entries.values()))["captures"])


def _number(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def place_text(model: Any) -> str:
    """The processor and the threads, for a key."""
    n = torch.get_num_threads()
    return f"{current_environment(model).device}, {n} thread{'s' * (n != 1)}"
