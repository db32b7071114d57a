"""Samples of edges: strata, seeds, and what is refused."""

from __future__ import annotations

import pytest
import torch

from hvp_patching.circuits.graph import EdgeGraph
from hvp_patching.circuits.sampling import READER_KINDS, STRATA, reader_kind, sample_edges

GRAPH = EdgeGraph(3, 4)


@pytest.fixture(scope="module")
def scores():
    return torch.randn(GRAPH.n_edges, generator=torch.Generator().manual_seed(1)).double()


def test_every_stratum_has_its_edges(scores):
    frame = sample_edges(GRAPH, scores, 5, 0, "p")
    assert tuple(dict.fromkeys(frame["stratum"])) == STRATA
    counts = frame["stratum"].value_counts()
    assert counts["one edge"] == 1
    assert set(counts.drop("one edge")) == {5}
    assert not frame.duplicated().any()
    for kind in READER_KINDS:
        assert set(map(reader_kind, frame.loc[frame["stratum"] == kind, "reader"])) == {kind}
    assert bool(GRAPH.select(frame[["writer", "reader"]].drop_duplicates()).any())


def test_the_largest_are_the_largest_of_all_and_of_their_kind(scores):
    frame = sample_edges(GRAPH, scores, 4, 0, "p")
    rows, columns = GRAPH.mask.nonzero().T.tolist()
    named = [(GRAPH.writers[r], GRAPH.readers[c]) for r, c in zip(rows, columns, strict=True)]
    ranked = sorted(zip(scores.abs().tolist(), named, strict=True), reverse=True)

    def of(stratum):
        own = frame[frame["stratum"] == stratum]
        return list(zip(own["writer"], own["reader"], strict=True))

    assert of("largest") == [edge for _, edge in ranked[:4]]
    of_mlps = [edge for _, edge in ranked if edge[1][0] == "m"]
    assert of("mlp") == of_mlps[:4]


def test_random_edges_depend_on_seed_and_prompt_alone(scores):
    first = sample_edges(GRAPH, scores, 6, 0, "p")
    again = sample_edges(GRAPH, -2 * scores, 6, 0, "p")
    others = [sample_edges(GRAPH, scores, 6, 1, "p"), sample_edges(GRAPH, scores, 6, 0, "q")]

    def drawn(frame):
        return frame[frame["stratum"] == "random"].reset_index(drop=True)

    assert drawn(first).equals(drawn(again))
    for other in others:
        assert not drawn(first).equals(drawn(other))


def test_a_small_graph_gives_what_it_has():
    graph = EdgeGraph(1, 1)
    frame = sample_edges(graph, torch.ones(graph.n_edges), 100, 0, "p")
    counts = frame["stratum"].value_counts()
    assert counts["random"] == counts["largest"] == graph.n_edges
    assert counts["q"] == 1


@pytest.mark.parametrize(
    ("n", "length", "said"), [(0, GRAPH.n_edges, "at least 1"), (3, 7, "7 scores for")]
)
def test_bad_samples_are_refused_in_one_line(n, length, said):
    with pytest.raises(ValueError, match=said) as caught:
        sample_edges(GRAPH, torch.ones(length), n, 0, "p")
    assert "\n" not in str(caught.value)
