"""What one edge does to circuits: the embedding's into MLP 0, given its right score or taken away.

Rule compute_one_edge. The prompts are halved as for Table 16, whose scores it finds in the store.
"""

from __future__ import annotations

import pandas as pd
import torch

from hvp_patching.cache import Store
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.sampling import ONE_EDGE
from hvp_patching.measuring.edges import halves, judge_scores, mean_scores, stored_scores
from hvp_patching.measuring.measurement import Measurement

RIGHT, WITHOUT = "eap_right", "hvp_joint_without"


def measure_one_edge(measurement: Measurement, store: Store) -> pd.DataFrame:
    """m of circuits by EAP and joint HVP, as they are and with one edge changed, signed selection.

    The frame ``one_edge``, which is that of ``faithfulness`` with the edge's mean exact effect and
    its mean scores (logits) beside. Methods: eap, eap_right (the edge has its exact effect),
    hvp_joint, hvp_joint_without (the edge counts as the most harmful). ValueError for fewer than
    two prompts.
    """
    scored, judged = halves(measurement)
    graph = graph_of(scored.model)
    means = mean_scores(scored, store, ["eap", "hvp_joint"])
    one = graph.select([ONE_EDGE])
    exact = sum(
        float(stored_scores(scored, store, tokens, ["exact"], edges=one)["exact"])
        for tokens in scored.prompts
    ) / len(scored.prompts)
    right, without = means["eap"].clone(), means["hvp_joint"].clone()
    right[one[graph.mask]] = exact
    without[one[graph.mask]] = float(without.abs().max()) + 1
    vectors = {**means, RIGHT: right, WITHOUT: without}
    matrices = {
        name: _matrix(graph, vectors[name]) for name in ("eap", RIGHT, "hvp_joint", WITHOUT)
    }
    values = judge_scores(judged, store, matrices, selections=("signed",))
    own = {name: float(means[name][one[graph.mask]]) for name in ("eap", "hvp_joint")}
    return values.assign(exact=exact, eap_score=own["eap"], hvp_joint_score=own["hvp_joint"])


def _matrix(graph: EdgeGraph, scores: torch.Tensor) -> torch.Tensor:
    matrix = torch.zeros(graph.mask.shape, dtype=torch.float64)
    matrix[graph.mask] = scores
    return matrix
