"""The graph of edges: the benchmark's counts, names and requests."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from hvp_patching.circuits.graph import EdgeGraph, graph_of


@pytest.mark.parametrize(
    ("layers", "heads", "edges"),
    [
        (12, 12, 32_491),  # GPT-2 small, the paper's number
        (24, 14, 179_749),  # Qwen2.5-0.5B, the paper's number
        (30, 9, 123_211),  # SmolLM2-135M
        (18, 4, 10_342),  # Gemma-3-270M
        (26, 8, 74_218),  # Gemma-2-2B
        (32, 32, 1_592_881),  # Llama-3.1-8B
    ],
)
def test_edges_are_counted_as_in_the_benchmark(layers, heads, edges):
    graph = EdgeGraph(layers, heads)
    assert graph.n_edges == edges == int(graph.mask.sum())
    assert len(graph.writers) == 1 + layers * (heads + 1)
    assert len(graph.readers) == layers * (3 * heads + 1) + 1
    assert EdgeGraph(layers, heads, parallel=True).n_edges == edges - layers * heads


@pytest.mark.parametrize("parallel", [False, True])
def test_an_edge_leads_to_what_comes_behind(parallel):
    graph = EdgeGraph(3, 2, parallel)

    def depth(name: str, reading: bool) -> float:
        if name in ("input", "logits"):
            return -1 if name == "input" else 99
        layer = int(name[1:].partition(".")[0])
        attention = name[0] == "a" or (reading and parallel)
        return layer + (0 if attention else 0.5)

    for row, writer in enumerate(graph.writers):
        for column, reader in enumerate(graph.readers):
            before = depth(writer, False) < depth(reader, True)
            assert bool(graph.mask[row, column]) == before, (writer, reader)


def test_names_are_the_benchmarks():
    graph = EdgeGraph(2, 2)
    assert graph.writers == ("input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1")
    assert graph.readers[:7] == (
        *("a0.h0<q>", "a0.h1<q>", "a0.h0<k>", "a0.h1<k>", "a0.h0<v>", "a0.h1<v>", "m0"),
    )
    assert graph.readers[-1] == "logits"
    for column, name in enumerate(graph.readers):
        node = int(graph.node_of_reader[column])
        assert (*graph.writers, "logits")[node] == name.partition("<")[0]


def test_readers_lie_at_the_hooks_of_their_inputs():
    graph = EdgeGraph(2, 2)
    places = {name: graph.place(column) for column, name in enumerate(graph.readers)}
    assert places["a1.h1<k>"] == ("blocks.1.attn.hook_k_input", (1,), 1)
    assert places["m0"] == ("blocks.0.hook_mlp_in", (), 0)
    assert places["logits"] == ("blocks.1.hook_resid_post", (), 1)


def test_edges_are_asked_for_in_every_form():
    graph = EdgeGraph(2, 2)
    wanted = torch.zeros_like(graph.mask)
    wanted[0, 6] = wanted[1, -1] = True
    pairs = [("input", "m0"), ("a0.h0", "logits")]
    for form in (
        pairs,
        ["input->m0", "a0.h0->logits"],
        pd.DataFrame(pairs, columns=["writer", "reader"]),
        wanted,
    ):
        assert torch.equal(graph.select(form), wanted)
    assert int(graph.select("input->m0").sum()) == 1
    assert torch.equal(graph.select(None), graph.mask)


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        (["input->m7"], "unknown reader 'm7'"),
        (["a9.h0->logits"], "unknown writer 'a9.h0'"),
        (["m1->m0"], "there is no edge m1->m0: m0 is not behind m1"),
        (["m0->m0"], "there is no edge"),
        (["input"], r"an edge is a \(writer, reader\) pair"),
        ([3], r"an edge is a \(writer, reader\) pair"),
        (["input->m0", ("input", "m0")], "asked for twice"),
        ([], "no edges asked for"),
        (pd.DataFrame({"writer": ["input"]}), "columns writer and reader"),
        (torch.ones(3, 3, dtype=torch.bool), "another model's"),
        (torch.ones(7, 15, dtype=torch.bool), "there is no edge"),
        (torch.zeros(7, 15, dtype=torch.bool), "the mask of edges is empty"),
        (torch.zeros(7, 15), "a mask of edges is bool"),
    ],
)
def test_what_is_no_edge_is_refused_in_one_line(edges, said):
    with pytest.raises(ValueError, match=said) as caught:
        EdgeGraph(2, 2).select(edges)
    assert "\n" not in str(caught.value)


def test_the_graph_is_read_off_the_model(tiny):
    assert graph_of(tiny("tiny-pythia")) == EdgeGraph(3, 4, parallel=True)
    assert graph_of(tiny("tiny-qwen2")) == EdgeGraph(3, 4)
    assert graph_of(tiny("tiny-gemma2")) == EdgeGraph(4, 4)
