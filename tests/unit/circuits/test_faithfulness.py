"""Runs of circuits: the identities that hold exactly, and TransformerLens as an oracle."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformer_lens.tools.analysis import attribution_patching as lens

import hvp_patching as hp
from hvp_patching.circuits.ablation import circuit_logits, circuit_values
from hvp_patching.circuits.edge_run import edge_run
from hvp_patching.circuits.faithfulness import judged, level_size
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.selection import circuit_of, prune
from hvp_patching.circuits.ungrouped import edge_model, ungrouped
from hvp_patching.metrics.faithfulness import LEVELS, areas
from hvp_patching.paths.precision import keep_precision

from .conftest import FAMILIES

MEMORY = 2**30


def random_circuits(graph: EdgeGraph, shares=(0.1, 0.3, 0.6, 0.9), seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    chance = torch.rand(len(shares), *graph.mask.shape, generator=draw)
    return [(c < share) & graph.mask for c, share in zip(chance, shares, strict=True)]


@pytest.fixture(scope="module")
def run_of(tiny, edge_pair):
    """What is done with a tiny model's run of the pair, with the hooks of edges on."""

    def call(name, what, dtype="float64"):
        with edge_model(tiny(name, dtype)) as found:
            return what(edge_run(found, edge_pair, graph_of(found), hp.logit_difference()))

    return call


def kl(a: torch.Tensor, b: torch.Tensor) -> float:
    p, q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).abs().max())


@pytest.mark.parametrize(("dtype", "size"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_whole_graph_is_the_clean_run_and_the_empty_one_the_corrupted(
    tiny, run_of, edge_pair, name, dtype, size
):
    mask = graph_of(tiny(name)).mask
    found = run_of(name, lambda r: circuit_logits(r, [mask, mask & False], MEMORY), dtype)
    with torch.no_grad(), keep_precision(tiny(name, dtype).cfg.dtype):
        for logits, ids in zip(found, (edge_pair.clean_ids, edge_pair.corrupted_ids), strict=True):
            plain = tiny(name, dtype)(torch.tensor([ids]))[0, -1]
            assert kl(logits[-1], plain) < size
            if dtype == "float64":
                assert float((logits[-1] - plain).abs().max()) < 1e-10
    assert kl(found[0], found[1]) > 1e-4


@pytest.mark.parametrize("name", FAMILIES)
def test_pruning_changes_no_metric(run_of, name):
    def both(run):
        circuits = random_circuits(run.graph, (0.05, 0.1, 0.2, 0.4))
        pruned = [prune(run.graph, kept) for kept in circuits]
        assert all(int(p.sum()) < int(c.sum()) for p, c in zip(pruned[:2], circuits, strict=False))
        return circuit_values(run, circuits, MEMORY), circuit_values(run, pruned, MEMORY)

    plain, pruned = run_of(name, both)
    assert torch.allclose(plain, pruned, atol=1e-11)
    assert len(set(plain.tolist())) >= 3


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_one_pass_are_runs_of_their_own(run_of, name):
    def three(run):
        circuits = random_circuits(run.graph)
        alone = torch.cat([circuit_values(run, [kept], MEMORY) for kept in circuits])
        return circuit_values(run, circuits, MEMORY), alone, circuit_values(run, circuits, 1)

    together, alone, little = run_of(name, three)
    assert torch.allclose(together, alone, atol=1e-11)
    assert torch.allclose(together, little, atol=1e-11)


@pytest.mark.parametrize("name", FAMILIES)
def test_leaving_out_one_edge_is_patching_it(tiny, run_of, edge_pair, name):
    """With every other edge live, one ablated edge carries live + (corrupted − live): exact."""
    edges = [("input", "m0"), ("a0.h1", "a1.h2<q>"), ("m1", "logits"), ("a0.h3", "a2.h0<v>")]
    graph = graph_of(tiny(name))
    circuits = [graph.mask & ~graph.select([edge]) for edge in edges]
    values = run_of(name, lambda r: circuit_values(r, circuits, MEMORY) - r.run.value)
    exact = hp.edge_scores(tiny(name), edge_pair, "exact", edges=edges)
    wanted = [float(exact.matrix[graph.writers.index(u), graph.readers.index(v)]) for u, v in edges]
    assert values.tolist() == pytest.approx(wanted, abs=1e-10)
    assert max(abs(value) for value in wanted) > 1e-3


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-pythia", "tiny-qwen2"])
def test_circuits_are_judged_as_transformer_lens_does(tiny, run_of, edge_pair, name):
    graph = graph_of(tiny(name))
    circuit = random_circuits(graph, (0.6,))[0]
    values = run_of(
        name, lambda r: (circuit_values(r, [circuit], MEMORY), r.run.value, r.corrupted_value)
    )
    ((m,), clean, corrupted) = values
    copy, n_pos = ungrouped(tiny(name)), len(edge_pair.clean_ids)
    nodes = [
        (_node(graph.writers[u], at, copy, False), _node(graph.readers[v], at, copy, True))
        for u, v in circuit.nonzero().tolist()
        for at in range(n_pos)
    ]
    (target,), (foil,) = edge_pair.target_ids, edge_pair.foil_ids
    with keep_precision(torch.float64):
        found = lens.faithfulness(
            copy,
            torch.tensor([edge_pair.clean_ids]),
            torch.tensor([edge_pair.corrupted_ids]),
            lambda logits: logits[0, -1, target] - logits[0, -1, foil],
            nodes,
        )
    assert found.recovered == pytest.approx(float((m - corrupted) / (clean - corrupted)), abs=1e-9)
    assert found.circuit_size == int(circuit.sum()) * n_pos


def _node(name: str, position: int, model, reading: bool) -> lens.Node:
    """Our name of a writer or a reader as the library's node."""
    if name in ("input", "logits"):
        kind, layer = ("embed", None) if name == "input" else ("logits", model.cfg.n_layers - 1)
        return lens.Node(kind, position, layer)
    layer, _, head = name.rstrip("<qkv>")[1:].partition(".h")
    if not head:
        return lens.Node("mlp_in" if reading else "mlp_out", position, int(layer))
    kind = f"{name[-2]}_input" if reading else "attn_head_out"
    return lens.Node(kind, position, int(layer), int(head))


def test_levels_choose_edges_and_give_f(tiny, edge_pair, make_pair):
    model = tiny("tiny-llama")
    other = dataclasses.replace(make_pair((3,), n=8, seed=1), foil_ids=(29,))
    scores = hp.edge_scores(model, [edge_pair, other])
    curve = hp.faithfulness(model, [edge_pair, other], scores, levels=(0.2, 0.6, 1.0))
    graph = graph_of(model)
    assert curve["n_edges"].tolist() == [52, 157, 262]
    circuits = {n: circuit_of(graph, scores.matrix, n) for n in (52, 157)}
    means = judged(model, [edge_pair, other], circuits).groupby("circuit")[["m"]].mean()["m"]
    clean, corrupted = curve["m_clean"][0], curve["m_corrupted"][0]
    for row, n in enumerate((52, 157)):
        assert curve["f"][row] == pytest.approx((means[n] - corrupted) / (clean - corrupted))
        assert curve["n_kept"][row] == int(prune(graph, circuits[n]).sum())
    assert curve["f"].iloc[-1] == 1.0
    assert curve.attrs["method"] == "eap"
    assert {k: curve.attrs[k] for k in ("cpr", "cmd", "average")} == areas(curve)


def test_the_benchmarks_levels_and_both_selections(tiny, edge_pair):
    model = tiny("tiny-gemma2")
    scores = hp.edge_scores(model, edge_pair, "eap_ig_inputs_5")
    signed = hp.faithfulness(model, edge_pair, scores)
    absolute = hp.faithfulness(model, edge_pair, scores, selection="absolute")
    assert tuple(signed["level"]) == LEVELS
    assert not signed["f"].equals(absolute["f"])
    assert signed.attrs["selection"] == "signed"
    mine = dataclasses.replace(scores, matrix=-scores.matrix)
    turned = hp.faithfulness(model, edge_pair, mine, selection="absolute")
    assert turned["f"].tolist() == absolute["f"].tolist()
    assert hp.faithfulness(model, edge_pair, mine)["f"].tolist() != signed["f"].tolist()


def test_levels_round_as_the_benchmark_does():
    graph = EdgeGraph(12, 12)
    assert [level_size(graph, level) for level in LEVELS] == [
        *(32, 64, 162, 324, 649, 1624, 3249, 6498, 16245, 32491),
    ]
    assert level_size(EdgeGraph(1, 1), 0.625) == 5  # of 8


def test_equal_circuits_run_once_and_clean_and_corrupted_not_at_all(tiny, edge_pair, monkeypatch):
    import hvp_patching.circuits.faithfulness as module

    model, seen = tiny("tiny-gpt2"), []
    graph = graph_of(model)

    def watched(run, circuits, memory):
        seen.append(len(circuits))
        return circuit_values(run, circuits, memory)

    monkeypatch.setattr(module, "circuit_values", watched)
    some = random_circuits(graph, (0.5,))[0]
    circuits = {"a": graph.mask, "b": some, "c": graph.mask & False, "d": some.clone()}
    found = judged(model, edge_pair, circuits).set_index("circuit")
    assert seen == [1]
    assert found["m"]["b"] == found["m"]["d"]
    assert found["m"]["a"] == found["m_clean"]["a"]
    assert found["m"]["c"] == found["m_corrupted"]["c"]


@pytest.fixture(scope="module")
def eap(tiny, edge_pair):
    return hp.edge_scores(tiny("tiny-gpt2"), edge_pair)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"levels": [0.5, 0.0]}, r"level 0\.0 is outside \(0, 1\]"),
        ({"levels": [1.5]}, r"level 1\.5 is outside \(0, 1\]"),
        ({"selection": "top"}, "unknown selection 'top'"),
        ({"pairs": []}, "no prompt pairs"),
        ({"scores": "eap"}, "scores are what edge_scores returns, not str"),
    ],
)
def test_bad_requests_are_refused_in_one_line(tiny, edge_pair, eap, change, said):
    asked = {"model": tiny("tiny-gpt2"), "pairs": edge_pair, "scores": eap, **change}
    with pytest.raises(ValueError, match=said) as caught:
        hp.faithfulness(**asked)
    assert "\n" not in str(caught.value)


def test_scores_of_another_model_are_refused(tiny, edge_pair, eap):
    for other in (tiny("tiny-qwen2"), tiny("tiny-pythia")):
        with pytest.raises(ValueError, match="the scores are another model's"):
            hp.faithfulness(other, edge_pair, eap)
    same = hp.faithfulness(tiny("tiny-gpt2", "float32"), edge_pair, eap, levels=0.5)
    assert same["n_edges"][0] == 131


def test_scores_of_some_edges_are_refused(tiny, edge_pair):
    some = hp.edge_scores(tiny("tiny-gpt2"), edge_pair, edges=["input->m0"])
    with pytest.raises(ValueError, match="the scores are of 1 of 262 edges"):
        hp.faithfulness(tiny("tiny-gpt2"), edge_pair, some)


def test_a_circuit_of_another_graph_is_refused(tiny, edge_pair):
    with pytest.raises(ValueError, match="another model's"):
        judged(tiny("tiny-gpt2"), edge_pair, {"one": EdgeGraph(2, 2).mask})
