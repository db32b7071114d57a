"""Every method against exact patching on a sample of edges (rule compute_edge_sample).

One stopwatch a method and prompt. Prompts are entries of the store, the seconds with them: a key
names the processor and the threads, so that no other machine's seconds are served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from hvp_patching.cache import PromptKey, Store, prompt_fields, remember
from hvp_patching.checking import Subject
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.method_names import REPLACING, split_name, unit_of
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

    def measure(subject: Subject) -> pd.DataFrame:
        prompt_id = subject.tokens.prompt_id
        (ranking,) = stored_scores(m, store, subject.tokens, [EAP]).values()
        sample = sample_edges(graph, ranking, per_stratum, seed, prompt_id)
        mask = graph.select(sample[["writer", "reader"]].drop_duplicates())
        one = graph.select([ONE_EDGE])
        masks = {name: mask for name in asked} | {name: one for name in OF_ONE if name not in asked}
        found, captures = stored_timed_scores(
            m, store, subject.tokens, {name: (name, edges) for name, edges in masks.items()}, m.advance
        )
        frames = []
        for name, edges in masks.items():
            scores, seconds = found[name]
            rows, columns = edges.nonzero().T.tolist()
            own = pd.DataFrame(
                {
                    "writer": [graph.writers[row] for row in rows],
                    "reader": [graph.readers[column] for column in columns],
                    "method": name,
                    "edge_score": scores.numpy(),

                    **_units(graph, name, edges),
                    "seconds": seconds,
                }
            )
            kept = sample if name in asked else sample[sample["stratum"] == ONE]
            frames.append(kept.merge(own, on=["writer", "reader"], validate="many_to_one"))
        table = pd.concat(frames, ignore_index=True)
        exact = table[table["method"] == EXACT].drop_duplicates(["writer", "reader"])
        effects = exact.set_index(["writer", "reader"])["edge_score"].rename("exact")
        return table.join(effects, on=["writer", "reader"]).assign(
            captures=captures, n_edges=graph.n_edges, place=place_text(m.model)
        )

    return m.table(measure)

def stored_timed_scores(
    measurement: Measurement,
    store: Store,
    tokens: TokenPair,
    asked: dict[str, tuple[str, Any]],
    progress: Progress,
) -> tuple[dict[str, tuple[torch.Tensor, float]], float]:
    """timed_scores through the store: scores and seconds by name, and the captures' seconds.

    asked: names -> (method, mask of edges). The captures are those of the pass that a method was
    timed in.
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
        captures = torch.tensor([found.captures], dtype=torch.float64)
        return {
            name: {
                "scores": timed.scores,
                "seconds": torch.tensor([timed.seconds], dtype=torch.float64),
                "captures": captures,
            }
            for name, timed in found.methods.items()
        }

    entries, _ = remember(store, keys, m.model, compute)
    found = {name: (e["scores"], float(e["seconds"])) for name, e in entries.items()}
    first = next(iter(entries.values()))
    return found, float(first["captures"])

def place_text(model: Any) -> str:
    """The processor and the threads, for a key."""
    return f"{current_environment(model).device}, {torch.get_num_threads()} threads"

def _checked(methods: Sequence[str]) -> list[str]:
    """Exact patching and EAP, against which others are set, then the asked ones, each once."""
    for name in methods:
        if split_name(name)[0] in REPLACING:
            raise ValueError(
                f"method '{name}' chooses its edges by all prompts together, and a sample has them "
                "already; leave it out"
            )
    return list(dict.fromkeys([EXACT, EAP, *methods]))


def _units(graph: EdgeGraph, name: str, edges: torch.Tensor) -> dict[str, Any]:
    """What a method's price is counted by, how many of it were scored, and are in the graph."""
    per = unit_of(name)
    n_edges, n_readers = int(edges.sum()), int(edges.any(0).sum())
    counts = {
        "edge": (n_edges, graph.n_edges),
        "flagged": (n_edges, graph.n_edges),
        "reader": (n_readers, len(graph.readers)),
    }
    n_scored, n_units = counts.get(per, (1, 1))
    return {"per": per, "n_scored": n_scored, "n_units": n_units}
