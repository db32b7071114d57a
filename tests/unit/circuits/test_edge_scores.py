"""Scores of edges against plain forward passes of an oracle that shares nothing with them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformer_lens.tools.analysis import attribution_patching as lens

import hvp_patching as hp
from hvp_patching.circuits.edge_run import edge_run
from hvp_patching.circuits.graph import graph_of
from hvp_patching.circuits.methods import method_by_name
from hvp_patching.circuits.post_norm import check_norm
from hvp_patching.circuits.scores import all_edge_scores
from hvp_patching.circuits.ungrouped import edge_model, ungrouped
from hvp_patching.paths.precision import keep_precision

from .conftest import FAMILIES

SAMPLE = (
    ("input", "a0.h1<k>"),
    ("input", "m0"),
    ("a0.h2", "a1.h0<v>"),
    ("a0.h1", "m1"),
    ("m0", "a2.h1<k>"),
    ("m1", "a2.h2<q>"),
    ("m0", "m2"),
    ("a2.h0", "logits"),
    ("m2", "logits"),
)


def of(scores, edges=SAMPLE):
    rows, columns = list(scores.writers), list(scores.readers)
    return {
        edge: float(scores.matrix[rows.index(edge[0]), columns.index(edge[1])]) for edge in edges
    }


def assert_close(found, wanted, tolerance=1e-6):
    assert max(abs(value) for value in wanted.values()) > 1e-3
    for edge, value in wanted.items():
        assert abs(found[edge] - value) <= tolerance * max(1, abs(value)), (
            edge,
            found[edge],
            value,
        )
    # one may vanish: m0 of a parallel model sees changed tokens alone, and its m2 the last token
    assert sum(value == 0 for value in wanted.values()) <= 1


@pytest.fixture(scope="module")
def scored(tiny, edge_pair):
    """Every method on the sampled edges of a tiny model."""
    import functools

    methods = (
        *("eap", "hvp_own", "exact", "hvp_input", "hvp_joint", "hvp_reader", "eap_ig_inputs_3"),
        *("eap_ig_activations_2", "ms_hvp_input_2", "ms_hvp_joint_2"),
    )
    return functools.cache(
        lambda name: all_edge_scores(tiny(name), edge_pair, methods, edges=SAMPLE)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_exact_is_a_forward_pass_with_one_edge_patched(scored, plain, name):
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    wanted = {}
    for edge in SAMPLE:
        start, end = plain(name).f(*edge, ends).tolist()
        wanted[edge] = end - start
    assert_close(of(scored(name)["exact"]), wanted, 1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_eap_is_the_slope_of_patching_one_edge(scored, plain, name):
    wanted = {edge: plain(name).slope(*edge) for edge in SAMPLE}
    assert_close(of(scored(name)["eap"]), wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_own_hvp_adds_half_the_curvature_of_patching_one_edge(scored, plain, name):
    wanted = {edge: plain(name).slope(*edge) + plain(name).curvature(*edge) / 2 for edge in SAMPLE}
    assert_close(of(scored(name)["hvp_own"]), wanted)


@pytest.mark.parametrize("path", ["input", "joint"])
@pytest.mark.parametrize("name", FAMILIES)
def test_input_and_joint_hvp_are_differences_of_gradients(scored, plain, name, path):
    oracle, some = plain(name), SAMPLE[:-1:2]
    along = getattr(oracle, path)
    wanted = {edge: oracle.slope(*edge) + oracle.mixed(*edge, along) / 2 for edge in some}
    assert_close(of(scored(name)[f"hvp_{path}"], some), wanted, 1e-5)


@pytest.mark.parametrize("name", ["tiny-qwen2", "tiny-gemma2"])
def test_reader_hvp_is_half_the_mixed_curvature_with_the_readers_change(scored, plain, name):
    """½ δ_u H_vv δ_v = ¼ (q(δ_u + δ_v) − q(δ_u) − q(δ_v)), q the curvature of a path into v."""
    oracle, some = plain(name), SAMPLE[1:7:2]
    wanted = {}
    for writer, reader in some:
        u, v = oracle.delta[writer], oracle.whole(reader)
        q = [oracle.curvature(direction, reader) for direction in (u + v, u, v)]
        wanted[writer, reader] = oracle.slope(writer, reader) + (q[0] - q[1] - q[2]) / 4
    assert_close(of(scored(name)["hvp_reader"], some), wanted, 1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_eap_ig_inputs_averages_gradients_from_the_corrupted_embedding_on(scored, plain, name):
    """k/n of the way from corrupted to clean, k = 0 … n − 1: the clean end is left out."""
    oracle, steps, some = plain(name), 3, SAMPLE[::2]
    wanted = {
        edge: sum(oracle.slope(*edge, oracle.input(1 - k / steps)) for k in range(steps)) / steps
        for edge in some
    }
    assert_close(of(scored(name)["eap_ig_inputs_3"], some), wanted)


@pytest.mark.parametrize("name", ["tiny-pythia", "tiny-gemma2"])
def test_eap_ig_activations_averages_over_every_place(scored, plain, name):
    oracle, steps, some = plain(name), 2, SAMPLE[:6:2]
    places = [oracle.input]
    for layer in range(oracle.layers):
        heads = oracle.layer_delta[f"a{layer}"]
        for hook, delta in (("attn", heads), ("mlp", oracle.delta[f"m{layer}"])):
            hook = f"blocks.{layer}.hook_{hook}_out"
            places.append(lambda t, hook=hook, delta=delta: [(hook, lambda x, hook: x + t * delta)])
    wanted = {
        edge: sum(oracle.slope(*edge, place(1 - k / steps)) for place in places for k in (1, 2))
        / (steps * len(places))
        for edge in some
    }
    assert_close(of(scored(name)["eap_ig_activations_2"], some), wanted)


@pytest.mark.parametrize("path", ["input", "joint"])
def test_ms_hvp_sums_steps_along_its_path(scored, plain, path):
    """Σ_k [f'(k/K)/K + f''(k/K)/(2K²)], K = 2, in every reader's gradient."""
    oracle, some = plain("tiny-llama"), SAMPLE[1:8:3]
    along = getattr(oracle, path)

    def second(edge, t, h=0.004):
        ends = [oracle.slope(*edge, along(t + side * h)) for side in (1, 0.5, -0.5, -1)]
        return (8 * (ends[1] - ends[2]) - (ends[0] - ends[3])) / (6 * h)

    wanted = {
        edge: sum(oracle.slope(*edge, along(t)) / 2 + second(edge, t) / 8 for t in (0.0, 0.5))
        for edge in some
    }
    assert_close(of(scored("tiny-llama")[f"ms_hvp_{path}_2"], some), wanted, 1e-5)


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-pythia", "tiny-qwen2", "tiny-llama"])
def test_eap_is_that_of_transformer_lens(tiny, edge_pair, name):
    """Its arguments swapped, since it differentiates the run that it calls corrupt."""
    model = tiny(name)
    scores = hp.edge_scores(model, edge_pair)
    copy = ungrouped(model)
    clean, corrupted = (
        torch.tensor([ids]) for ids in (edge_pair.clean_ids, edge_pair.corrupted_ids)
    )
    (target,), (foil,) = edge_pair.target_ids, edge_pair.foil_ids
    copy.requires_grad_(True)
    try:
        with keep_precision(torch.float64):
            found = lens.attribution_patch(
                copy,
                corrupted,
                clean,
                lambda logits: logits[0, -1, target] - logits[0, -1, foil],
                lens.EdgeAttributionConfig(granularity="edge"),
            )
    finally:
        copy.requires_grad_(False)
    total = torch.zeros_like(scores.matrix)
    for (writer, reader), value in found.edge_scores.items():
        row = scores.writers.index(_name(writer))
        total[row, scores.readers.index(_name(reader))] += value
    assert len(found.edge_scores) == int(scores.mask.sum()) * len(edge_pair.clean_ids)
    assert float(total.abs().max()) > 0.1
    assert float((total - scores.matrix).abs().max()) < 1e-10


def _name(node) -> str:
    if node.kind in ("embed", "logits"):
        return {"embed": "input"}.get(node.kind, node.kind)
    if node.layer is not None and node.head is None:
        return f"m{node.layer}"
    kind = f"<{node.kind[0]}>" if node.kind.endswith("_input") else ""
    return f"a{node.layer}.h{node.head}{kind}"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_writers_scores_add_up_to_its_own(tiny, edge_pair, plain, name):
    """Everything that reads a writer: the slope, or half step, of moving its output itself."""
    names = ["eap", "hvp_input", "eap_ig_inputs_4"]
    found = all_edge_scores(tiny(name), edge_pair, names)
    delta, hook = plain(name).delta["input"], "blocks.0.hook_resid_pre"
    jets = hp.path_jets(
        tiny(name),
        edge_pair,
        patches=[hp.Patch(hook, 0, delta)],
        metric=hp.logit_difference(),
        nodes={0.0: 2, 0.25: 1, 0.5: 1, 0.75: 1, 1.0: 1},
        backend="autograd",
    )
    rules = (hp.estimators.AP(), hp.estimators.HVP(), hp.estimators.IG(4, "right"))
    for method, rule in zip(names, rules, strict=True):
        assert float(found[method].matrix[0].sum()) == pytest.approx(float(rule(jets)), abs=1e-9)
    if name == "tiny-gemma2":
        return
    heads = hp.site_attribution(tiny(name), edge_pair, metric=hp.logit_difference())
    graph = graph_of(tiny(name))
    rows = [graph.heads(layer) for layer in range(graph.n_layers)]
    sums = torch.cat([found["eap"].matrix[place].sum(1) for place in rows])
    assert torch.allclose(sums, heads, atol=1e-10)


@pytest.mark.parametrize("name", ["tiny-pythia", "tiny-llama"])
def test_a_readers_scores_add_up_to_moving_its_whole_input(tiny, edge_pair, plain, name):
    found = hp.edge_scores(tiny(name), edge_pair, "hvp_reader")
    oracle = plain(name)
    for reader in ("a1.h2<q>", "a2.h0<v>", "m1", "logits"):
        change = oracle.whole(reader)
        wanted = oracle.slope(change, reader) + oracle.curvature(change, reader) / 2
        column = found.matrix[:, found.readers.index(reader)].sum()
        assert float(column) == pytest.approx(wanted, abs=1e-6)


def test_all_joint_terms_add_up_to_the_curvature_of_the_joint_path(tiny, edge_pair, plain):
    found = all_edge_scores(tiny("tiny-qwen2"), edge_pair, ["eap", "hvp_joint"])
    oracle = plain("tiny-qwen2")
    up, zero, down = (float(oracle.m(oracle.joint(t))) for t in (0.004, 0.0, -0.004))
    wide = [float(oracle.m(oracle.joint(t))) for t in (0.008, -0.008)]
    narrow, wider = (up + down - 2 * zero) / 0.004**2, (sum(wide) - 2 * zero) / 0.008**2
    total = float((found["hvp_joint"].matrix - found["eap"].matrix).sum())
    assert total == pytest.approx((4 * narrow - wider) / 6, rel=1e-4)


def test_a_head_behind_a_norm_is_patched_in_the_sum_that_the_norm_takes(tiny, edge_pair, plain):
    """Gemma, without linearisation: the norm of the sum with this head corrupted, minus clean."""
    model = tiny("tiny-gemma2")
    with edge_model(model) as found:
        run = edge_run(found, edge_pair, graph_of(found), hp.logit_difference())
    oracle, start = plain("tiny-gemma2"), run.run.start
    for layer in range(4):
        hook = [f"blocks.{layer}.hook_attn_out"]
        (clean,), (corrupted,) = (
            oracle.seen(hook, ids=i) for i in (oracle.clean, oracle.corrupted)
        )
        change = (corrupted - clean)[0, start:]
        assert float(change.abs().max()) > 0.01
        assert torch.allclose(run.changes[1 + 2 * layer], change, atol=1e-12)
        rows = run.graph.heads(layer)
        assert not torch.allclose(run.delta[rows].sum(0), change, atol=1e-4)
        for head, found_change in enumerate(run.delta[rows]):
            wanted = oracle.delta[f"a{layer}.h{head}"][start:]
            assert torch.allclose(found_change, wanted, atol=1e-12)


def test_a_norm_of_something_else_than_the_heads_is_refused(tiny):
    model, total = tiny("tiny-gemma2"), torch.randn(1, 5, 32, dtype=torch.float64)
    with pytest.raises(ValueError, match="not the norm of the sum of its heads") as caught:
        check_norm(model, 0, total, total)
    assert "\n" not in str(caught.value)


def test_selection_by_rho_mixes_eap_and_own_hvp(tiny, edge_pair):
    names = ["eap", "hvp_own", "hvp_joint", "selective_0.4", "selective", "selective_joint_0.4"]
    found = all_edge_scores(tiny("tiny-qwen2"), edge_pair, names, edges=SAMPLE)
    ap, own, joint, chosen, default, screened = (
        found[name].matrix[found[name].mask] for name in names
    )
    for values, other, tau in ((chosen, own, 0.4), (default, own, 0.5), (screened, joint, 0.4)):
        flagged = (other - ap).abs() > tau * ap.abs()
        assert 0 < int(flagged.sum()) < len(ap)
        assert torch.allclose(values, torch.where(flagged, own, ap), atol=1e-12)


@pytest.mark.parametrize("path", ["input", "joint"])
def test_flagged_edges_have_the_paths_own_hvp(tiny, edge_pair, path):
    """All edges at a threshold, without a row an edge."""
    names = ["eap", f"hvp_{path}", f"hvp_{path}_flagged", f"hvp_{path}_flagged_0.2"]
    found = all_edge_scores(tiny("tiny-llama"), edge_pair, names)
    ap, full, default, strict = (found[name].matrix[found[name].mask] for name in names)
    for values, tau in ((default, 0.5), (strict, 0.2)):
        over = (full - ap).abs() > tau * ap.abs()
        assert 0 < int(over.sum()) < len(ap)
        assert torch.allclose(values, torch.where(over, full, ap), atol=1e-12)
    assert not torch.equal(default, strict)


def test_selection_by_eap_ig_replaces_the_edges_that_it_moves_most(tiny, edge_pair, make_pair):
    model = tiny("tiny-llama")
    pairs = [edge_pair, dataclasses.replace(make_pair((3,), n=8, seed=1), foil_ids=(29,))]
    names = ["eap", "eap_ig_inputs_5", "selective_exact_6", "selective_own_4"]
    found = all_edge_scores(model, pairs, names)
    moved = (found["eap_ig_inputs_5"].matrix - found["eap"].matrix).abs()
    for name, method, n in (("selective_exact_6", "exact", 6), ("selective_own_4", "hvp_own", 4)):
        chosen = moved >= moved.flatten().sort(descending=True).values[n - 1]
        fixed = hp.edge_scores(model, pairs, method, edges=chosen)
        assert torch.equal(found[name].matrix[~chosen], found["eap"].matrix[~chosen])
        assert torch.allclose(found[name].matrix[chosen], fixed.matrix[chosen], atol=1e-12)
        assert not torch.allclose(fixed.matrix[chosen], found["eap"].matrix[chosen], atol=1e-4)


def test_scores_are_means_over_pairs_and_keep_each(tiny, edge_pair, make_pair):
    model = tiny("tiny-gpt2")
    other = dataclasses.replace(make_pair((2, 5), n=7, seed=2), foil_ids=(29,))
    both = hp.edge_scores(model, [edge_pair, other])
    alone = [hp.edge_scores(model, pair) for pair in (edge_pair, other)]
    assert torch.allclose(both.matrix, (alone[0].matrix + alone[1].matrix) / 2, atol=1e-14)
    assert torch.equal(both.by_pair[1], alone[1].matrix[both.mask])
    frame = both.to_frame()
    assert list(frame) == ["writer", "reader", "score", "method"]
    assert len(frame) == 262
    row = frame[(frame.writer == "input") & (frame.reader == "m0")].iloc[0]
    assert row.score == of(both, [("input", "m0")])["input", "m0"]
    each = both.to_frame(by_pair=True)
    assert each.groupby("prompt_id", sort=False).size().tolist() == [262, 262]
    assert each.groupby(["writer", "reader"]).score.mean()["input", "m0"] == pytest.approx(
        row.score
    )
    assert float(both.matrix[~both.mask].abs().max()) == 0


def test_results_do_not_depend_on_memory_threads_or_dtype_beyond_rounding(tiny, edge_pair):
    names, some = ["eap_ig_inputs_3", "ms_hvp_joint_2", "hvp_own", "exact"], SAMPLE[-4:]
    big = all_edge_scores(tiny("tiny-llama"), edge_pair, names, edges=some)
    small = all_edge_scores(tiny("tiny-llama"), edge_pair, names, edges=some, memory=1)
    single = all_edge_scores(tiny("tiny-llama", "float32"), edge_pair, names, edges=some)
    for name in names:
        assert torch.allclose(big[name].matrix, small[name].matrix, atol=1e-11)
        assert torch.allclose(big[name].matrix, single[name].matrix, atol=1e-3, rtol=1e-3)
        assert single[name].matrix.dtype == torch.float64


def test_progress_reaches_the_end(tiny, edge_pair, make_pair):
    other = dataclasses.replace(make_pair((2,), n=7, seed=2), foil_ids=(29,))
    for method in ("eap", "exact", "hvp_reader", "selective_0.4"):
        done: list[float] = []
        hp.edge_scores(
            tiny("tiny-gpt2"), [edge_pair, other], method, edges=SAMPLE[:2], progress=done.append
        )
        assert sum(done) == pytest.approx(1)


def test_any_metric_can_be_used(tiny, edge_pair):
    model, (target,) = tiny("tiny-qwen2"), edge_pair.target_ids
    named = hp.edge_scores(model, edge_pair, "hvp_joint", "logprob", edges=SAMPLE)
    own = hp.edge_scores(
        model,
        edge_pair,
        "hvp_joint",
        lambda logits: logits.log_softmax(-1)[target],
        edges=SAMPLE,
    )
    assert torch.allclose(named.matrix, own.matrix, atol=1e-9)
    assert float(named.matrix.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "eap_ig"}, "unknown method 'eap_ig'; known: eap, eap_ig_inputs_N"),
        ({"method": 3}, "unknown method 3"),
        ({"method": "eap_ig_inputs_0"}, "needs at least 1 step"),
        ({"method": "selective_own_0"}, "at least 1 edge"),
        ({"method": "selective_own_999"}, "replaces 999 edges, and there are 262"),
        ({"edges": ["m1->m0"]}, "there is no edge"),
        ({"edges": ["input->a0.h7<q>"]}, "unknown reader"),
        ({"pairs": []}, "no prompt pairs"),
        ({"metric": "kl"}, "unknown metric"),
    ],
)
def test_bad_requests_are_refused_in_one_line(tiny, edge_pair, change, said):
    with pytest.raises(ValueError, match=said) as caught:
        hp.edge_scores(**{"model": tiny("tiny-gpt2"), "pairs": edge_pair, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"corrupted_ids": (400,) * 8}, "lengths differ"),
        ({"foil_ids": (17,)}, "foil and target at once"),
        ({"foil_ids": ()}, "needs a foil"),
        ({"corruption": "zero"}, "zero corruption has no corrupted run"),
    ],
)
def test_bad_pairs_are_refused_in_one_line(tiny, edge_pair, change, said):
    with pytest.raises(ValueError, match=said) as caught:
        hp.edge_scores(tiny("tiny-gpt2"), dataclasses.replace(edge_pair, **change))
    assert "\n" not in str(caught.value)


def test_a_model_in_train_mode_is_refused(edge_pair):
    model = hp.load_model("tiny-gpt2", dtype="float64")
    model.train()
    with pytest.raises(ValueError, match="train mode"):
        hp.edge_scores(model, edge_pair)


def test_a_residual_stream_that_is_no_plain_sum_is_refused(edge_pair):
    """Something between writers and readers, as a scaled residual would be."""
    model = hp.load_model("tiny-gpt2", dtype="float64")
    block = model.blocks[1]
    block.ln2.register_forward_pre_hook(lambda module, args: (args[0] * 1.5, *args[1:]))
    with pytest.raises(ValueError, match="does not add up to what it sees") as caught:
        hp.edge_scores(model, edge_pair)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["eap", "eap_ig_inputs_12", "selective_0.25", "selective_exact_3"])
def test_methods_are_known_by_name(name):
    assert method_by_name(name).name == name
