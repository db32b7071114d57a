"""Which edges make a circuit: the best n by score, pruned to what is connected.

A kept edge matters only on a way from the embedding to the logits. Pruning leaves out the others,
which changes no metric: a node that receives nothing from the circuit gives its corrupted output,
and one that nothing in it reads is never seen.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, vstack

from hvp_patching.circuits.graph import EdgeGraph

SELECTIONS = ("signed", "absolute")
TIME_LIMIT = 60.0  # seconds for one integer program


def circuit_of(
    graph: EdgeGraph, matrix: torch.Tensor, n: int, selection: str = "signed"
) -> torch.Tensor:
    """Mask of the n best edges, bool [n_writers, n_readers]; equal scores by their place.

    signed: those that help most, whose scores are most negative in this package's direction;
    absolute: the largest sizes. ValueError for another selection or a number of edges outside the
    graph.
    """
    if not 0 <= n <= graph.n_edges:
        raise ValueError(f"{n} edges asked for, and the graph has {graph.n_edges}")
    order = gains(graph, matrix, selection).argsort(descending=True, stable=True)
    kept = torch.zeros(graph.n_edges, dtype=torch.bool)
    kept[order[:n]] = True
    mask = torch.zeros_like(graph.mask)
    mask[graph.mask] = kept
    return mask


def gains(graph: EdgeGraph, matrix: torch.Tensor, selection: str) -> torch.Tensor:
    """What selection makes largest, float64 [n_edges] in the order of the graph's mask."""
    if selection not in SELECTIONS:
        raise ValueError(f"unknown selection {selection!r}; choose one of: {', '.join(SELECTIONS)}")
    if matrix.shape != graph.mask.shape:
        raise ValueError(
            f"scores of {list(matrix.shape)} writers and readers are another model's: this one has "
            f"{list(graph.mask.shape)}"
        )
    scores = matrix.detach().cpu().double()[graph.mask]
    if not bool(scores.isfinite().all()):
        raise ValueError("the scores of edges are not all finite; no circuit can be chosen by them")
    return -scores if selection == "signed" else scores.abs()


def prune(graph: EdgeGraph, kept: torch.Tensor) -> torch.Tensor:
    """The kept edges that lie on a way from the embedding to the logits, bool as `kept`.

    Nodes without kept incoming or outgoing edges go, with their edges, until nothing changes; a
    head's queries, keys and values count together; embedding and logits always stay.
    """
    kept = kept & graph.mask
    logits = len(graph.writers)
    while True:
        fed = torch.zeros(logits + 1, dtype=torch.bool)
        fed[graph.node_of_reader[kept.any(0)]] = True
        fed[0] = True
        read = torch.cat([kept.any(1), torch.ones(1, dtype=torch.bool)])
        alive = fed & read
        left = kept & fed[:logits, None] & alive[graph.node_of_reader][None]
        if torch.equal(left, kept):
            return kept
        kept = left


def best_circuit(
    graph: EdgeGraph,
    matrix: torch.Tensor,
    n: int,
    selection: str = "signed",
    time_limit: float = TIME_LIMIT,
) -> torch.Tensor:
    """The connected circuit of exactly n edges whose scores add up to most, as a mask.

    An integer program (scipy's HiGHS) with one binary an edge and a node; every kept node has kept
    edges in and out. For small graphs: seconds for a few hundred edges. ValueError where there is
    none, or none was proven the best within `time_limit` seconds.
    """
    gain = gains(graph, matrix, selection).numpy()
    rows, columns = (side.numpy() for side in graph.mask.nonzero().T)
    readers = graph.node_of_reader.numpy()[columns]
    edges, nodes = len(gain), len(graph.writers) + 1
    ends = np.arange(1, nodes - 1)  # neither embedding nor logits: those need no other side
    incidence = _incidence(rows, readers, edges, nodes)
    constraints = [
        LinearConstraint(incidence[0], -np.inf, 0),  # an edge needs both of its nodes
        LinearConstraint(incidence[1][ends], 0, np.inf),  # a node needs an edge in
        LinearConstraint(incidence[2][ends], 0, np.inf),  # and one out
        LinearConstraint(np.concatenate([np.ones(edges), np.zeros(nodes)])[None], n, n),
    ]
    found = milp(
        np.concatenate([-gain, np.zeros(nodes)]),
        integrality=np.ones(edges + nodes),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"time_limit": time_limit, "mip_rel_gap": 0},
    )
    if found.status != 0 or found.x is None:
        raise ValueError(
            f"no best connected circuit of {n} of {edges} edges in {time_limit:g} s "
            f"({found.message.splitlines()[0]}); use the greedy one"
        )
    mask = torch.zeros_like(graph.mask)
    mask[graph.mask] = torch.from_numpy(found.x[:edges] > 0.5)
    return mask


def _incidence(
    writers: np.ndarray, readers: np.ndarray, edges: int, nodes: int
) -> tuple[coo_array, np.ndarray, np.ndarray]:
    """Rows x_e − y_node ≤ 0 for both ends of every edge; Σ in − y ≥ 0 and Σ out − y ≥ 0 a node."""
    numbers, ones = np.arange(edges), np.ones(edges)
    parts = []
    for end in (writers, readers):
        data = np.concatenate([ones, -ones])
        place = (np.tile(numbers, 2), np.concatenate([numbers, edges + end]))
        parts.append(coo_array((data, place), shape=(edges, edges + nodes)))
    sums = []
    for end in (readers, writers):
        data = np.concatenate([ones, -np.ones(nodes)])
        at = np.concatenate([end, np.arange(nodes)])
        place = (at, np.concatenate([numbers, edges + np.arange(nodes)]))
        sums.append(coo_array((data, place), shape=(nodes, edges + nodes)).tocsr())
    return vstack(parts).tocsr(), sums[0], sums[1]
