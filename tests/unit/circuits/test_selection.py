"""Choosing circuits: the best edges, pruning, and the integer program against brute force."""

from __future__ import annotations

import itertools

import pytest
import torch

from hvp_patching.circuits.graph import EdgeGraph
from hvp_patching.circuits.selection import best_circuit, circuit_of, prune


def matrix(graph: EdgeGraph, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(graph.mask.shape, generator=draw, dtype=torch.float64)
    return values * graph.mask


def on_a_way(graph: EdgeGraph, kept: torch.Tensor) -> torch.Tensor:
    """The kept edges on a path from the embedding to the logits, by walking from both ends."""
    rows = {name: i for i, name in enumerate((*graph.writers, "logits"))}
    ends = [
        (int(u), rows[graph.readers[int(v)].partition("<")[0]]) for u, v in kept.nonzero().tolist()
    ]
    from_input, to_logits = {0}, {len(graph.writers)}
    for _ in graph.writers:
        from_input |= {v for u, v in ends if u in from_input}
        to_logits |= {u for u, v in ends if v in to_logits}
    left = torch.zeros_like(kept)
    for (u, v), (node, end) in zip(kept.nonzero().tolist(), ends, strict=True):
        left[u, v] = node in from_input and end in to_logits
    return left


@pytest.mark.parametrize("selection", ["signed", "absolute"])
def test_the_best_edges_are_kept(selection):
    graph = EdgeGraph(2, 2)
    scores = matrix(graph)
    kept = circuit_of(graph, scores, 7, selection)
    gain = -scores if selection == "signed" else scores.abs()
    assert int(kept.sum()) == 7
    assert float(gain[kept].min()) >= float(gain[graph.mask & ~kept].max())
    assert not bool((kept & ~graph.mask).any())


def test_equal_scores_are_taken_in_their_order():
    graph = EdgeGraph(2, 2)
    kept = circuit_of(graph, torch.zeros(graph.mask.shape, dtype=torch.float64), 4)
    assert kept.nonzero().tolist() == graph.mask.nonzero()[:4].tolist()


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("n", [1, 5, 12, 30, 61])
def test_pruning_leaves_what_lies_on_a_way_to_the_logits(n, parallel):
    graph = EdgeGraph(3, 2, parallel)
    for seed in range(8):
        kept = circuit_of(graph, matrix(graph, seed), n)
        left = prune(graph, kept)
        assert torch.equal(left, on_a_way(graph, kept))
        assert torch.equal(prune(graph, left), left)


def test_pruning_keeps_a_head_with_queries_alone():
    graph = EdgeGraph(2, 2)
    kept = graph.select(["input->a0.h0<q>", "a0.h0->logits", "m0->m1", "input->m1"])
    assert torch.equal(prune(graph, kept), graph.select(["input->a0.h0<q>", "a0.h0->logits"]))
    assert not prune(graph, graph.select(["input->m0", "m1->logits"])).any()
    assert torch.equal(prune(graph, graph.mask), graph.mask)


@pytest.mark.parametrize("parallel", [False, True])
def test_the_integer_program_is_brute_force(parallel):
    graph = EdgeGraph(1, 2, parallel)
    for seed, n in itertools.product(range(3), (1, 2, 3, 5)):
        scores = matrix(graph, seed)
        edges = graph.mask.nonzero().tolist()
        best = -torch.inf
        for chosen in itertools.combinations(edges, n):
            kept = torch.zeros_like(graph.mask)
            kept[tuple(torch.tensor(chosen).T)] = True
            if torch.equal(on_a_way(graph, kept), kept):
                best = max(best, -float(scores[kept].sum()))
        found = best_circuit(graph, scores, n)
        assert int(found.sum()) == n
        assert torch.equal(prune(graph, found), found)
        assert -float(scores[found].sum()) == pytest.approx(best, abs=1e-9)


def test_the_integer_program_loses_nothing_against_pruning():
    graph = EdgeGraph(3, 4)
    for selection in ("signed", "absolute"):
        scores = matrix(graph, 5)
        gain = -scores if selection == "signed" else scores.abs()
        greedy = prune(graph, circuit_of(graph, scores, 30, selection))
        best = best_circuit(graph, scores, int(greedy.sum()), selection)
        assert float(gain[best].sum()) >= float(gain[greedy].sum()) - 1e-9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"selection": "greedy"}, "unknown selection 'greedy'; choose one of: signed, absolute"),
        ({"n": 99}, "99 edges asked for, and the graph has"),
        ({"n": -1}, "-1 edges"),
        ({"matrix": torch.zeros(3, 3)}, "another model's"),
        ({"matrix": torch.full((7, 15), torch.nan)}, "not all finite"),
    ],
)
def test_bad_requests_are_refused_in_one_line(change, said):
    graph = EdgeGraph(2, 2)
    asked = {"graph": graph, "matrix": matrix(graph), "n": 3, **change}
    with pytest.raises(ValueError, match=said):
        circuit_of(**asked)


def test_what_was_not_proven_in_time_is_refused():
    graph = EdgeGraph(4, 4)
    with pytest.raises(ValueError, match="no best connected circuit of 100 of"):
        best_circuit(graph, matrix(graph), 100, time_limit=1e-6)
