"""Sets of heads: how they are drawn, stored and checked, and that they agree with the library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hvp_patching as hp
from hvp_patching.cache import Store
from hvp_patching.checking import Check, CheckFailed
from hvp_patching.circuits.joint import PREDICTORS
from hvp_patching.frames import SET_EFFECTS
from hvp_patching.measuring import sets as measuring
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.measuring.sets import drawn_sets, measure_sets

COMPONENTS = [(layer, head) for layer in range(3) for head in range(4)]
TRUTH = np.array([0.1, -3.0, 0.5, 0.5, 2.0, 0, 0, 0, -0.5, 0, 0, 0.2])
METRICS = ("logprob", "logit_difference")


@pytest.fixture
def measurement(tiny, make_pair):
    def make(dtype="float64", foil=(23,), **options):
        prompts = [replace(make_pair(seed=seed, n=9), foil_ids=foil) for seed in (0, 1)]
        return Measurement(lambda kind: tiny("tiny-gpt2", kind), prompts, dtype=dtype, **options)

    return make


def test_sets_are_drawn_at_random_and_from_the_top():
    found = drawn_sets(COMPONENTS, TRUTH, (2, 4), 3, "7/prompt")
    kinds = [(one.drawn, one.size, one.number) for one in found]
    assert kinds[:4] == [("random", 2, 0), ("random", 2, 1), ("random", 2, 2), ("top", 2, 0)]
    for one in found:
        assert len(set(one.members)) == one.size
        assert list(one.members) == sorted(one.members)
        assert set(one.members) <= set(COMPONENTS)
    tops = {one.size: one.members for one in found if one.drawn == "top"}
    assert tops[2] == ((0, 1), (1, 0))
    assert tops[4] == ((0, 1), (0, 2), (0, 3), (1, 0))  # of equal ones the first
    assert len({one.members for one in found if one.size == 4}) == 4


def test_random_sets_depend_on_the_seed_alone():
    def members(truth, sizes, seed):
        found = drawn_sets(COMPONENTS, truth, sizes, 3, seed)
        return [one.members for one in found if one.drawn == "random" and one.size == 4]

    assert members(TRUTH, (2, 4), "7/a") == members(-TRUTH[::-1], (4,), "7/a")
    assert members(TRUTH, (4,), "7/a") != members(TRUTH, (4,), "7/b")


def test_the_table_is_what_the_library_says_of_each_set(measurement, tmp_path):
    m = measurement()
    table = measure_sets(m, Store(tmp_path), METRICS, (2, 5), 2)
    assert set(table.columns) == set(SET_EFFECTS.columns)
    assert len(table) == 2 * 2 * 2 * 3 * len(PREDICTORS)
    for tokens in m.prompts:
        for metric in METRICS:
            own = table[(table["prompt_id"] == tokens.prompt_id) & (table["metric"] == metric)]
            truth = hp.activation_patching(m.model, tokens, metric=metric).numpy()
            sets = drawn_sets(COMPONENTS, truth, (2, 5), 2, f"0/{tokens.prompt_id}")
            named = {(one.drawn, one.size, one.number): one.members for one in sets}
            expected = hp.joint_effects(m.model, tokens, "attn_heads", named, metric=metric)
            found = own.set_index(["drawn", "size", "number", "predictor"])
            for row in expected.itertuples(index=False):
                here = found.loc[(*row.set_id, row.predictor)]
                assert here["predicted"] == pytest.approx(row.value, abs=1e-9)
                assert here["joint_effect"] == pytest.approx(row.exact, abs=1e-9)
                assert abs(row.exact) > 1e-6


def test_metrics_see_the_same_random_sets(measurement, tmp_path):
    m = measurement()
    table = measure_sets(m, Store(tmp_path), METRICS, (3,), 2, predictors=["sum_exact"])
    one = drawn_sets(COMPONENTS, TRUTH, (3,), 2, f"0/{m.prompts[0].prompt_id}")[0].members
    for metric in METRICS:
        rows = table[(table["metric"] == metric) & (table["drawn"] == "random")]
        singles = hp.activation_patching(m.model, m.prompts[0], components=one, metric=metric)
        assert rows["predicted"].iloc[0] == pytest.approx(float(singles.sum()), abs=1e-9)


def test_what_is_in_the_store_is_not_computed_again(measurement, tmp_path, monkeypatch):
    done = []
    m = measurement(progress=done.append)
    first = measure_sets(m, Store(tmp_path), METRICS, (2,), 2)
    assert sum(done) == pytest.approx(2)

    def never(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(measuring, "joint_jets", never)
    again = measure_sets(measurement(), Store(tmp_path), METRICS, (2,), 2)
    pd.testing.assert_frame_equal(first, again)
    with pytest.raises(AssertionError, match="computed again"):
        measure_sets(measurement(), Store(tmp_path), METRICS, (2,), 3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_right_numbers_pass_the_check(measurement, tmp_path, dtype, direction):
    check = Check("all")
    m = measurement(dtype, check=check, direction=direction)
    measure_sets(m, Store(tmp_path), METRICS, (2, 5), 1)
    line = check.summary()
    # prompts, metrics: sets at the nodes of MS-HVP(5), IG(10) and the end; heads at both ends
    rows = 2 * 2 * (4 * 16 + 12 * 2)
    assert line.startswith(f"check: {rows} of {rows} rows agree by finite differences (")


@pytest.mark.parametrize("metric", METRICS)
def test_a_wrong_number_is_found_and_named(measurement, tmp_path, monkeypatch, metric):
    real = measuring.joint_jets

    def wrong(*args):
        values = real(*args)
        values[1, 0, 2] += 0.05
        return values

    monkeypatch.setattr(measuring, "joint_jets", wrong)
    m = measurement(check=Check("all"))
    with pytest.raises(CheckFailed, match=r"prompt 'seed-0', set of 2 \(.*\), node 0, order 2: "):
        measure_sets(m, Store(tmp_path), [metric], (2,), 2)


def test_bad_requests_are_refused_in_one_line(measurement, tmp_path):
    m, store = measurement(), Store(tmp_path)
    with pytest.raises(
        ValueError, match=r"sets of 13 components are asked for, and the model has 12"
    ):
        measure_sets(m, store, METRICS, (2, 13), 2)
    without = measurement(foil=())
    with pytest.raises(ValueError, match=r"prompt 'seed-0' has no foil, which logit_difference ne"):
        measure_sets(without, store, METRICS, (2,), 2)
    assert len(measure_sets(without, store, ["logprob"], (2,), 1)) == 2 * 2 * len(PREDICTORS)
    with pytest.raises(ValueError, match="unknown predictor 'ap'"):
        measure_sets(m, store, METRICS, (2,), 2, predictors=["ap"])
