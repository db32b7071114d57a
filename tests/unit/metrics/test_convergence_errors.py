import numpy as np
import pandas as pd
import pytest

from hvp_patching.estimators import GL, IG, MS_HVP, by_name, required_jets
from hvp_patching.frames import FrameError
from hvp_patching.measuring.scores import score_estimators
from hvp_patching.metrics.convergence import (
    DERIVATIVES,
    NOT_REACHED,
    REACHED,
    TRUTH,
    convergence_errors,
)
from hvp_patching.paths.jets import path_jets

# one prompt, three components; relative errors of ig_1: 0.5, 0.1, 0.2, of ig_2: 0, 0.3, 0.1
TRUTHS = [2.0, -1.0, 10.0]
ESTIMATES = {"ig_1": [1.0, -1.1, 12.0], "ig_2": [2.0, -0.7, 9.0]}


def sweep(estimates=ESTIMATES, truths=TRUTHS, dtype="float64", prompt="p"):
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "prompt_id": prompt,
                    "layer": range(len(truths)),
                    "index": 0,
                    "estimator": name,
                    "estimate": values,
                    "truth": truths,
                    "cost": by_name(name).cost,
                    "truth_range": 12.0,
                    "dtype": dtype,
                }
            )
            for name, values in estimates.items()
        ],
        ignore_index=True,
    )


def line(table, estimator, dtype):
    found = table[(table["estimator"] == estimator) & (table["dtype"] == dtype)]
    assert len(found) == 1
    return found.iloc[0]


def shifted(relative_truth, relative_estimate, error):
    """float64 and float32 sweeps of known roundings; `error` is ig_2's own in float64."""
    truths = np.array(TRUTHS)
    exact = {"ig_1": 1.5 * truths, "ig_2": (1 + error) * truths}
    rounded = {name: values + relative_estimate * truths for name, values in exact.items()}
    return pd.concat(
        [
            sweep(rounded, (1 + relative_truth) * truths, "float32"),
            sweep(exact, truths, "float64"),
        ]
    )


def test_errors_are_medians_and_maxima_over_components_and_prompts():
    other = sweep({"ig_1": [3.0], "ig_2": [2.2]}, [2.0], prompt="q")
    table = convergence_errors(pd.concat([sweep(), other]))
    first, second = line(table, "ig_1", "float64"), line(table, "ig_2", "float64")
    assert (first["family"], first["steps"], first["cost"]) == ("ig", 1, 1)
    assert (first["error"], first["error_max"]) == pytest.approx((0.35, 0.5))
    assert (second["error"], second["error_max"]) == pytest.approx((0.1, 0.3))
    assert (first["n_prompts"], first["n_components"]) == (2, 2)
    assert table["floor"].to_list() == pytest.approx([0.1, 0.1])


def test_one_dtype_alone_knows_no_rounding():
    table = convergence_errors(sweep())
    assert table[["truth_rounding", "estimate_rounding"]].isna().all(axis=None)
    assert set(table["cause"]) == {NOT_REACHED}


@pytest.mark.parametrize(
    ("truth", "estimate", "error", "cause"),
    [
        (1e-5, 1e-7, 1e-9, TRUTH),
        (1e-7, 1e-5, 1e-9, DERIVATIVES),
        (1e-5, 1e-7, 1e-2, NOT_REACHED),
        (1e-5, 0, 0.5e-5 * REACHED, TRUTH),
        (1e-5, 0, 2e-5 * REACHED, NOT_REACHED),
    ],
)
def test_the_floor_has_the_cause_of_the_larger_rounding(truth, estimate, error, cause):
    table = convergence_errors(shifted(truth, estimate, error))
    found = line(table, "ig_2", "float32")
    assert found["truth_rounding"] == pytest.approx(truth, rel=1e-6)
    assert found["estimate_rounding"] == pytest.approx(estimate, rel=1e-6, abs=1e-14)
    assert found["floor"] == pytest.approx(abs(error + estimate - truth) / (1 + truth), rel=1e-6)
    assert found["cause"] == cause
    # what float64 has no better numbers for is scaled by the machine epsilons, 2^-52 to 2^-23
    best = line(table, "ig_2", "float64")
    assert best["truth_rounding"] == pytest.approx(truth * 2.0**-29, rel=1e-6)
    assert best["cause"] == NOT_REACHED


def test_families_have_floors_of_their_own():
    families = ESTIMATES | {"ms_hvp_1": [2.0, -1.0, 9.9]}
    table = convergence_errors(sweep(families))
    assert line(table, "ig_1", "float64")["floor"] == pytest.approx(0.1)
    assert line(table, "ms_hvp_1", "float64")["floor"] == pytest.approx(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="dtype"), "lacks the columns dtype"),
        (lambda rows: rows.replace({"dtype": {"float64": "int8"}}), "unknown dtype 'int8'"),
        (lambda rows: rows.replace({"estimator": {"ig_1": "ap"}}), "'ap' has no number of steps"),
        (lambda rows: rows.assign(truth=rows["truth"].where(rows["layer"] > 0, 0.0)), "no effect"),
        (
            lambda rows: pd.concat(
                [rows, rows[rows["estimator"] == "ig_1"].assign(dtype="float32")]
            ),
            "'float32' shares 3 of its 3 estimates with the 6 of 'float64'",
        ),
    ],
)
def test_sweeps_without_an_answer_are_refused(change, message):
    with pytest.raises(FrameError, match=message):
        convergence_errors(change(sweep()))


def test_a_real_path_in_two_precisions(tiny, make_pair):
    """IG and MS-HVP fall as cost⁻², Gauss–Legendre down to what float32 can tell apart."""
    rules = [*map(IG, (4, 16)), *map(MS_HVP, (4, 16)), *map(GL, (2, 4, 8))]
    request = {0.0: 0, 1.0: 0} | required_jets(rules)
    pair, chosen, frames = make_pair(), [(0, 0), (1, 1), (2, 2)], []
    for dtype in ("float32", "float64"):
        jets = path_jets(tiny("tiny-gpt2", dtype), pair, nodes=request, components=chosen)
        frames.append(score_estimators(jets.to_frame("p"), rules).assign(dtype=dtype))
    table = convergence_errors(pd.concat(frames))
    precise = table[table["dtype"] == "float64"].set_index("estimator")
    for family in ("ig", "ms_hvp"):
        falls = precise["error"][f"{family}_4"] / precise["error"][f"{family}_16"]
        assert falls == pytest.approx(16, rel=0.15)
        assert precise["cause"][f"{family}_16"] == NOT_REACHED
    rough = table[table["dtype"] == "float32"].set_index("estimator")
    assert precise["floor"]["gl_8"] < 1e-9 < rough["floor"]["gl_8"] < 1e-4
    assert rough["cause"]["gl_8"] in (TRUTH, DERIVATIVES)
    assert 1e-9 < rough["truth_rounding"]["gl_8"] < 1e-4
