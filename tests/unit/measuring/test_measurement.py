"""What the compute rules measure: every prompt once, in order, checked, reported and kept."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from hvp_patching.baselines import BASELINES
from hvp_patching.cache import Store
from hvp_patching.checking import Check, CheckFailed
from hvp_patching.circuits.attention import attention_patterns
from hvp_patching.frames import FORWARD
from hvp_patching.measuring import attention, baselines, convergence, costs, jets, probes, sweeps
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.paths.jets import path_jets
from hvp_patching.paths.vector_hvp import hessian_vector_products, lipschitz_estimates

NODES = (0.0, 0.5, 1.0)
ESTIMATORS = ["ap", "ms_hvp_2"]


@pytest.fixture
def measurement(tiny, make_pair):
    """Two prompts of tiny-gpt2, a few rows checked; what the bar heard is in `heard`."""
    made = Measurement(
        lambda dtype: tiny("tiny-gpt2", dtype),
        [make_pair(seed=0), make_pair(seed=1)],
        dtype="float64",
        check=Check("sample"),
    )
    made.heard = []
    made.progress = made.heard.append
    return made


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def ids(m):
    return [tokens.prompt_id for tokens in m.prompts]


@pytest.fixture
def ends(measurement):
    """The effects of all heads, as compute_jets writes them."""
    found = [path_jets(measurement.model, p, nodes=jets.ENDS) for p in measurement.prompts]
    frames = [one.to_frame(name) for one, name in zip(found, ids(measurement), strict=True)]
    return pd.concat(frames, ignore_index=True)


RULES = {
    "jets": lambda m, store, ends: jets.measure_jets(m, store, ESTIMATORS),
    "baseline": lambda m, store, ends: baselines.measure_baseline(m, store, "gauss_newton"),
    "probes": lambda m, store, ends: probes.measure_probes(m, store, NODES),
    "sweep": lambda m, store, ends: sweeps.measure_sweep(m, store, ends, ESTIMATORS, 2),
    "attention": lambda m, store, ends: attention.measure_attention(m)[1],
}


@pytest.mark.parametrize("rule", RULES)
def test_every_prompt_is_reported_as_one_and_checked(measurement, store, ends, rule):
    m = measurement
    table = RULES[rule](m, store, ends)
    assert sum(m.heard) == pytest.approx(2)
    assert min(m.heard) >= -1e-12
    assert m.check.seen > m.check.checked > 0
    if rule != "attention":  # which is a mean over the prompts
        assert table.columns[0] == "prompt_id"
        assert list(table["prompt_id"].unique()) == ids(m)


@pytest.mark.parametrize("rule", ["jets", "baseline", "probes", "sweep"])
def test_what_is_stored_is_read_and_reported_alike(measurement, store, ends, rule, monkeypatch):
    first = RULES[rule](measurement, store, ends)
    monkeypatch.setattr(store, "put", lambda *_: pytest.fail("computed again"))
    heard = []
    again = replace(measurement, check=Check("off"), progress=heard.append)
    pd.testing.assert_frame_equal(RULES[rule](again, store, ends), first)
    assert sum(heard) == pytest.approx(2)


def test_jets_are_path_jets_of_the_nodes_that_the_estimators_need(measurement, store):
    table = jets.measure_jets(measurement, store, ESTIMATORS)
    assert jets.needed_nodes(ESTIMATORS) == {0.0: 2, 0.5: 2, 1.0: 0}
    for tokens in measurement.prompts:
        expected = path_jets(measurement.model, tokens, nodes=jets.needed_nodes(ESTIMATORS))
        mine = table[table["prompt_id"] == tokens.prompt_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, expected.to_frame(tokens.prompt_id), rtol=1e-12)


def test_a_sample_is_of_every_layer_and_the_same_for_jets_and_baselines(measurement, store):
    m = replace(measurement, site="mlp_post")
    mine = jets.measure_jets(m, store, ["ap"], per_layer=3, seed=5)
    theirs = baselines.measure_baseline(m, store, "gauss_newton", per_layer=3, seed=5)
    place = ["prompt_id", "layer", "index"]
    assert set(map(tuple, mine[place].to_numpy())) == set(map(tuple, theirs[place].to_numpy()))
    assert theirs.groupby(["prompt_id", "layer"]).size().to_list() == [3] * 6
    full = BASELINES["gauss_newton"](m.model, m.prompts[0], "mlp_post").numpy()
    width = len(full) // 3
    own = theirs[theirs["prompt_id"] == ids(m)[0]]
    assert own["estimate"].to_list() == [
        full[width * layer + index] for layer, index in zip(own["layer"], own["index"], strict=True)
    ]


def test_probes_are_lipschitz_estimates(measurement, store):
    m = measurement
    table = probes.measure_probes(m, store, NODES)
    expected = lipschitz_estimates(hessian_vector_products(m.model, m.prompts[1], nodes=NODES))
    mine = table[table["prompt_id"] == ids(m)[1]].drop(columns="prompt_id").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine[list(expected.columns)], expected, rtol=1e-12)


def test_convergence_measures_in_each_precision(measurement, store, ends):
    m = measurement
    dtypes = ["float32", "float64"]
    table = convergence.measure_convergence(m, store, ends, ["ap"], 2, dtypes)
    assert list(table["dtype"].unique()) == dtypes
    assert sum(m.heard) == pytest.approx(4)
    single, double = (table[table["dtype"] == dtype]["estimate"].to_numpy() for dtype in dtypes)
    assert single == pytest.approx(double, rel=1e-3)
    assert (single != double).all()


def test_attention_is_the_first_prompts_and_the_roles_of_all(measurement):
    m = measurement
    patterns, roles = attention.measure_attention(m)
    first = attention_patterns(m.model, m.prompts[0])
    below = torch.tril_indices(first.shape[-1], first.shape[-1])
    assert sorted(patterns["probability"]) == pytest.approx(
        sorted(first[..., below[0], below[1]].flatten().tolist())
    )
    measured = roles[roles["n_prompts"] > 0]
    assert set(measured["n_prompts"]) == {2}
    assert measured.groupby("role").size().to_list() == [first.shape[0] * first.shape[1]] * len(
        set(measured["role"])
    )


def test_costs_check_what_they_time(measurement):
    table = costs.measure_costs(measurement, repeats=1)
    assert FORWARD in set(table["operation"])
    assert measurement.check.checked > 0
    assert "seconds are not measured twice" in measurement.check.summary()


def test_a_wrong_number_stops_the_rule(measurement, store, monkeypatch):
    real = jets.stored_jets

    def wrong(*arguments):
        found, computed = real(*arguments)
        found.values[3, 0, 1] += 0.5
        return found, computed

    monkeypatch.setattr(jets, "stored_jets", wrong)
    with pytest.raises(CheckFailed, match="prompt 'seed-0', layer 0, index 3, node 0, order 1"):
        jets.measure_jets(replace(measurement, check=Check("all")), store, ["ap"])
