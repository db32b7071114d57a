"""Edges through the store: halves, means, replaced edges, resumption, models that cannot."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

import hvp_patching as hp
from hvp_patching.aggregates import EDGE_SAMPLE, EDGE_TIMING, FAITHFULNESS, ONE_EDGE
from hvp_patching.cache import Store
from hvp_patching.circuits.graph import graph_of
from hvp_patching.circuits.scores import all_edge_scores
from hvp_patching.measuring import edge_sample, edge_timing, edges, one_edge
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.metrics.circuits import circuit_summary
from hvp_patching.metrics.edges import edge_costs, edge_effects, edge_errors, one_edge_summary

METHODS = ("eap", "hvp_joint", "selective_exact_4", "selective_own_4", "selective_exact_2")


@pytest.fixture
def measurement(tiny, make_pair):
    """Four prompts with foils of tiny-gpt2; what the bar heard is in `heard`."""
    prompts = [
        replace(make_pair((3, 5), n=8, seed=seed), foil_ids=(23,), prompt_id=f"p{seed}")
        for seed in range(4)
    ]
    made = Measurement(lambda dtype, **options: tiny("tiny-gpt2", dtype), prompts, dtype="float64")
    made.heard = []
    made.progress = made.heard.append
    return made


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def broken(monkeypatch, module, name, after=0):
    """A function that fails from its call number `after` on; returns how often it was called."""
    real, calls = getattr(module, name), []

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, call)
    return calls


# --- scores of all edges ----------------------------------------------------------------------


def test_means_are_those_of_edge_scores_replaced_edges_included(measurement, store):
    scored, _ = edges.halves(measurement)
    table = edges.measure_edges(scored, store, METHODS)
    found = all_edge_scores(measurement.model, measurement.prompts[:2], METHODS)
    assert list(table["method"].unique()) == list(METHODS)
    assert set(table["n_prompts"]) == {2}
    for name in METHODS:
        own = table.loc[table["method"] == name, "score"].to_numpy()
        assert own == pytest.approx(found[name].matrix[found[name].mask].numpy(), abs=1e-12)
        assert abs(own).max() > 1e-2
    eap, exact = (
        table.loc[table["method"] == name, "score"].to_numpy() for name in METHODS[::2][:2]
    )
    assert (eap != exact).sum() == 4
    assert sum(measurement.heard) == pytest.approx(2 * edges.edge_passes(METHODS))
    assert edges.edge_passes(["eap"]) == 1


def test_a_second_run_takes_all_from_the_store(measurement, store, monkeypatch):
    scored, judged = edges.halves(measurement)
    table = edges.measure_edges(scored, store, METHODS)
    circuits = edges.measure_faithfulness(judged, store, table, levels=(0.1, 1.0))
    for name in ("all_edge_scores", "judged"):
        broken(monkeypatch, edges, name)
    pd.testing.assert_frame_equal(edges.measure_edges(scored, store, METHODS), table)
    again = edges.measure_faithfulness(judged, store, table, levels=(0.1, 1.0))
    pd.testing.assert_frame_equal(again, circuits)
    assert len(FAITHFULNESS.check(circuits)) == 2 * len(METHODS) * 2 * 2


def test_a_kill_loses_the_prompt_that_runs(measurement, store, monkeypatch):
    scored, _ = edges.halves(measurement)
    with monkeypatch.context() as patch:
        broken(patch, edges, "all_edge_scores", after=1)
        with pytest.raises(KeyboardInterrupt):
            edges.measure_edges(scored, store, ["eap"])
    real, calls = edges.all_edge_scores, []

    def counted(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(edges, "all_edge_scores", counted)
    edges.measure_edges(scored, store, ["eap"])
    assert [args[1].prompt_id for args in calls] == ["p1"]


def test_scores_are_stored_as_the_model_computes(tiny, make_pair, store):
    """float32 has what a float32 model's scores have; the run that stored and the next agree."""
    pair = replace(make_pair((3,), n=8), foil_ids=(23,))
    for dtype in ("float32", "float64"):
        m = Measurement(lambda dtype, **options: tiny("tiny-gpt2", dtype), [pair], dtype=dtype)
        first, again = (edges.stored_scores(m, store, pair, ["eap"])["eap"] for _ in range(2))
        own = hp.edge_scores(m.model, pair).by_pair[0]
        assert first.dtype == torch.float64
        assert torch.equal(first, again)
        assert torch.equal(first, own.to(getattr(torch, dtype)).double())


def test_one_prompt_and_scores_of_another_graph_are_refused(measurement, store):
    with pytest.raises(ValueError, match="ask for at least 2"):
        edges.halves(replace(measurement, prompts=measurement.prompts[:1]))
    scored, judged = edges.halves(measurement)
    table = edges.measure_edges(scored, store, ["eap"])
    with pytest.raises(ValueError, match="score all edges of this model"):
        edges.measure_faithfulness(judged, store, table.iloc[:-1])
    with pytest.raises(ValueError, match="chooses its edges by all prompts"):
        edges.stored_scores(scored, store, scored.prompts[0], ["selective_own_4"])


def test_both_halves_use_one_model(measurement):
    loads = []
    load = measurement.load
    measurement.load = lambda dtype, **options: loads.append(dtype) or load(dtype, **options)
    first, second = edges.halves(measurement)
    assert first.model is second.model is measurement.model
    assert loads == ["float64"]


def test_a_model_that_cannot_has_tables_without_rows(tmp_path):
    """They pass through files and the analysis that reads them."""
    path = tmp_path / "empty.parquet"
    edges.no_circuits().to_parquet(path)
    circuits = FAITHFULNESS.check(pd.read_parquet(path))
    assert circuits.empty
    assert circuit_summary(circuits).empty
    assert list(circuit_summary(circuits))[:3] == ["method", "selection", "n_prompts"]
    assert list(edges.no_edges()) == ["writer", "reader", "method", "score", "n_prompts"]


# --- one edge -----------------------------------------------------------------------------------


def test_one_edge_alone_is_changed(measurement, store):
    table = ONE_EDGE.check(one_edge.measure_one_edge(measurement, store))
    assert sum(measurement.heard) == pytest.approx(4)
    pairs, model = measurement.prompts, measurement.model
    exact = hp.edge_scores(model, pairs[:2], "exact", edges=["input->m0"])
    assert table["exact"].to_numpy() == pytest.approx(float(exact.by_pair.mean()), abs=1e-10)
    eap = hp.edge_scores(model, pairs[:2])
    graph = graph_of(model)
    row, column = graph.writers.index("input"), graph.readers.index("m0")
    assert table["eap_score"].to_numpy() == pytest.approx(float(eap.matrix[row, column]))
    changed = eap.matrix.clone()
    changed[row, column] = float(exact.by_pair.mean())
    curves = {
        "eap": hp.faithfulness(model, pairs[2:], eap),
        "eap_right": hp.faithfulness(model, pairs[2:], replace(eap, matrix=changed)),
    }
    summary = one_edge_summary(table, n_resamples=100).set_index("method")
    for name, curve in curves.items():
        assert summary["cpr"][name] == pytest.approx(curve.attrs["cpr"], abs=1e-9)
    assert set(summary.index) == {"eap", "eap_right", "hvp_joint", "hvp_joint_without"}
    without = table[(table["method"] == "hvp_joint_without") & (table["level"] < 1)]
    assert (without["n_edges"] < graph.n_edges).all()


# --- sampled edges ------------------------------------------------------------------------------

ENDS = ("writer", "reader")
SAMPLED = ("eap_ig_inputs_5", "hvp_own", "hvp_reader", "hvp_joint", "selective")


def test_sampled_edges_have_every_score_and_their_exact_effect(measurement, store):
    few = replace(measurement, prompts=measurement.prompts[:1])
    table = EDGE_SAMPLE.check(edge_sample.measure_edge_sample(few, store, SAMPLED, per_stratum=1))
    assert set(table["method"]) == {*SAMPLED, "exact", "eap", "ms_hvp_own_5", "ig_own_10"}
    assert sum(measurement.heard) == pytest.approx(1)
    for tokens in few.prompts:
        own = table[table["prompt_id"] == tokens.prompt_id]
        asked = own[["writer", "reader"]].drop_duplicates()
        names = [*SAMPLED, "exact", "ig_own_10"]
        right = all_edge_scores(measurement.model, tokens, names, edges=asked)
        scores = pd.concat([right[name].to_frame() for name in names])
        both = own.drop(columns="stratum").drop_duplicates().merge(scores, on=[*ENDS, "method"])
        assert set(both["method"]) == set(names)
        assert both["edge_score"].to_numpy() == pytest.approx(both["score"], abs=1e-10)
        exact = own[own["method"] == "exact"]
        assert (exact["edge_score"] == exact["exact"]).all()
        assert exact["exact"].abs().max() > 1e-3
    one = table[table["method"].isin(["ms_hvp_own_5", "ig_own_10"])]
    assert set(one["stratum"]) == {"one edge"}
    assert set(zip(one["writer"], one["reader"], strict=True)) == {("input", "m0")}
    per = table.drop_duplicates("method").set_index("method")
    assert per["per"]["eap"] == "prompt"
    assert (per["n_scored"]["eap"], per["n_units"]["eap"]) == (1, 1)
    assert per["n_units"]["hvp_reader"] == len(graph_of(measurement.model).readers)
    assert per["n_units"]["exact"] == graph_of(measurement.model).n_edges
    assert (table["seconds"] > 0).all()
    errors = edge_errors(table, n_resamples=100)
    whole = errors[errors["stratum"] == "all"].set_index("method")
    assert whole["error_share"]["exact"] == 0
    assert whole["error_share"]["eap"] > 0
    assert whole["flagged_share"]["hvp_own"] == whole["flagged_share"]["selective"]
    assert set(edge_effects(table)["method"]) == set(table["method"])


def test_samples_come_from_the_store_but_not_for_other_threads(measurement, store, monkeypatch):
    measurement = replace(measurement, prompts=measurement.prompts[:2])
    first = edge_sample.measure_edge_sample(measurement, store, ["hvp_own"], 1)
    calls = broken(monkeypatch, edge_sample, "timed_scores")
    again = edge_sample.measure_edge_sample(measurement, store, ["hvp_own"], 1)
    pd.testing.assert_frame_equal(again, first)
    assert calls == []
    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt):
        edge_sample.measure_edge_sample(measurement, store, ["hvp_own"], 1)


def test_methods_that_choose_their_edges_are_not_sampled(measurement, store):
    with pytest.raises(ValueError, match="chooses its edges by all prompts") as caught:
        edge_sample.measure_edge_sample(measurement, store, ["selective_own_3"], 1)
    assert "\n" not in str(caught.value)


# --- seconds ------------------------------------------------------------------------------------


def test_every_prompt_is_timed_and_few_have_some_edges(measurement, store):
    methods = ["eap", "hvp_joint", "hvp_joint_flagged"]
    table = EDGE_TIMING.check(
        edge_timing.measure_edge_timing(measurement, store, methods, n_sampled=1, n_edges=6)
    )
    counts = table["method"].value_counts()
    everywhere = {"eap", "eap_ig_inputs_5", "hvp_joint", "hvp_joint_flagged"}
    some = {"hvp_own", "exact", "selective_own_6", "selective_exact_6"}
    assert set(counts[counts == 4].index) == everywhere
    assert set(counts[counts == 1].index) == some
    assert (table["seconds"] > 0).all()
    assert (table["captures"] > 0).all()
    assert set(table["n_edges"]) == {262}
    flagged = table.set_index(["method", "prompt_id"])["flagged_share"]
    for tokens in measurement.prompts:
        ap, joint = (
            hp.edge_scores(measurement.model, tokens, name).by_pair[0] for name in methods[:2]
        )
        share = float(((joint - ap).abs() > 0.5 * ap.abs()).double().mean())
        assert flagged["hvp_joint", tokens.prompt_id] == pytest.approx(share)
        assert flagged["hvp_joint_flagged", tokens.prompt_id] == pytest.approx(share)
    assert flagged["eap"].isna().all()
    assert flagged["hvp_own"].notna().all()
    rows = edge_costs(table, n_resamples=100).set_index("method")
    own = table[table["method"] == "hvp_own"].iloc[0]
    assert rows["seconds_all"]["hvp_own"] == pytest.approx(own["seconds"] * 262 / 6)
    assert bool(rows["projected"]["selective_own_6"])
    assert not bool(rows["projected"]["eap"])
    assert rows["overhead"]["eap"] == 1


def test_a_killed_clock_goes_on_at_the_next_prompt(measurement, store, monkeypatch):
    with monkeypatch.context() as patch:
        broken(patch, edge_timing, "timed_scores", after=2)
        with pytest.raises(KeyboardInterrupt):
            edge_timing.measure_edge_timing(measurement, store, ["eap"], 0, 5)
    calls = []
    real = edge_timing.timed_scores
    monkeypatch.setattr(
        edge_timing, "timed_scores", lambda *args: calls.append(args[1]) or real(*args)
    )
    edge_timing.measure_edge_timing(measurement, store, ["eap"], 0, 5)
    assert [tokens.prompt_id for tokens in calls] == ["p2", "p3"]


@pytest.mark.parametrize("name", ["hvp_own", "hvp_reader", "exact", "selective_own_4"])
def test_methods_with_a_price_by_edges_are_not_timed_on_all(measurement, store, name):
    with pytest.raises(ValueError, match="is not timed on all edges") as caught:
        edge_timing.measure_edge_timing(measurement, store, [name], 1, 5)
    assert "\n" not in str(caught.value)
