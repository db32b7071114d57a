"""A stratified sample of edges: the strongest, random ones, the strongest of every kind of reader.

Methods are set against exact patching on it, since patching all edges of a model takes hours.
"""

from __future__ import annotations

import random

import pandas as pd
import torch

from hvp_patching.circuits.graph import INPUT, KINDS, LOGITS, EdgeGraph

LARGEST, RANDOM, ONE = "largest", "random", "one edge"
READER_KINDS = (*KINDS, "mlp", LOGITS)
STRATA = (LARGEST, RANDOM, *READER_KINDS, ONE)
ONE_EDGE = (INPUT, "m0")  # the edge that carries most of the effect, and that EAP gets wrong


def reader_kind(reader: str) -> str:
    """What a reader is: q, k, v, mlp or logits."""
    if reader == LOGITS:
        return LOGITS
    return reader[-2] if reader.endswith(">") else "mlp"


def sample_edges(
    graph: EdgeGraph, scores: torch.Tensor, per_stratum: int, seed: int, prompt_id: str
) -> pd.DataFrame:
    """Edges of one prompt: stratum, writer, reader; an edge may stand in several strata.

    scores: EAP's of all edges, [n_edges] in the order of the graph's mask. `largest` has the
    `per_stratum` largest in size, each kind of reader the largest of its own, `random` as many
    drawn from all edges by seed and prompt_id; the last stratum has the edge from the embedding
    into MLP 0. ValueError for fewer than one a stratum, or scores of another number of edges.
    """
    if per_stratum < 1:
        raise ValueError(f"{per_stratum} edges a stratum; ask for at least 1")
    if len(scores) != graph.n_edges:
        raise ValueError(
            f"{len(scores)} scores for {graph.n_edges} edges; score all edges of this model"
        )
    rows, columns = graph.mask.nonzero().T.tolist()
    order = scores.abs().argsort(descending=True, stable=True).tolist()
    kinds = [reader_kind(reader) for reader in graph.readers]
    draw = random.Random(f"{seed}/{prompt_id}")
    drawn = sorted(draw.sample(range(graph.n_edges), min(per_stratum, graph.n_edges)))
    one = (graph.writers.index(ONE_EDGE[0]), graph.readers.index(ONE_EDGE[1]))
    chosen = {LARGEST: order[:per_stratum], RANDOM: drawn}
    for kind in READER_KINDS:
        chosen[kind] = [n for n in order if kinds[columns[n]] == kind][:per_stratum]
    chosen[ONE] = [list(zip(rows, columns, strict=True)).index(one)]
    found = [
        (stratum, graph.writers[rows[number]], graph.readers[columns[number]])
        for stratum, numbers in chosen.items()
        for number in numbers
    ]
    return pd.DataFrame(found, columns=["stratum", "writer", "reader"])
