"""Faithfulness as a ratio of means, and the areas under its curve."""

from __future__ import annotations

import pandas as pd
import pytest

from hvp_patching.metrics.faithfulness import (
    LEVELS,
    areas,
    checked_levels,
    faithfulness_curve,
)


def values(m, clean=(2.0, 4.0), corrupted=(0.0, 1.0), level=0.5):
    rows = [
        {"prompt_id": str(i), "level": level, "n_edges": 5, "n_kept": 3, "m": x}
        | {"m_clean": clean[i], "m_corrupted": corrupted[i]}
        for i, x in enumerate(m)
    ]
    return pd.DataFrame(rows)


def test_faithfulness_is_a_ratio_of_means():
    curve = faithfulness_curve(values([1.0, 3.0]))
    assert list(curve) == ["level", "n_edges", "n_kept", "m", "m_clean", "m_corrupted", "f"]
    assert curve.loc[0, "f"] == pytest.approx((2.0 - 0.5) / (3.0 - 0.5))  # no mean of ½ and ⅔
    assert (curve.loc[0, "n_edges"], curve.loc[0, "n_kept"]) == (5, 3)


def test_levels_are_in_increasing_order():
    both = pd.concat([values([2.0, 4.0], level=1.0), values([0.0, 1.0], level=0.1)])
    curve = faithfulness_curve(both)
    assert curve["level"].tolist() == [0.1, 1.0]
    assert curve["f"].tolist() == [0.0, 1.0]


def test_runs_that_the_metric_does_not_tell_apart_are_refused():
    with pytest.raises(ValueError, match="same mean metric"):
        faithfulness_curve(values([1.0, 1.0], clean=(1.0, 2.0), corrupted=(2.0, 1.0)))
    with pytest.raises(ValueError, match="lack the column 'm_clean'"):
        faithfulness_curve(values([1.0, 1.0]).drop(columns="m_clean"))


def curve_of(f, levels=LEVELS):
    return pd.DataFrame({"level": levels, "f": f})


def test_the_best_areas_are_the_benchmarks():
    found = areas(curve_of([1.0] * 10))
    assert found == pytest.approx({"cpr": 0.999, "cmd": 0.0, "average": 1.0})


def test_a_circuit_that_recovers_nothing_has_the_papers_numbers():
    found = areas(curve_of([0.0] * 9 + [1.0]))  # half of the step from 50% to 100%
    assert found == pytest.approx({"cpr": 0.25, "cmd": 0.749, "average": 0.1})


def test_areas_are_trapezoids_on_a_linear_axis_in_any_order():
    shuffled = curve_of([3.0, 1.0, 2.0], (0.5, 0.1, 1.0))
    found = areas(shuffled)
    assert found["cpr"] == pytest.approx(0.4 * 2.0 + 0.5 * 2.5)
    assert found["cmd"] == pytest.approx(0.4 * 1.0 + 0.5 * 1.5)
    assert found["average"] == 2.0


def test_the_distance_is_never_below_that_of_the_areas():
    found = areas(curve_of([0.1, 0.4, -0.2, 1.8, 0.7, 1.2, 1.1, 0.9, 0.95, 1.0]))
    assert found["cmd"] >= abs(found["cpr"] - 0.999)


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([0.0], r"level 0\.0 is outside \(0, 1\]"),
        ([0.1, 1.5], r"level 1\.5 is outside"),
        ([-0.1], "outside"),
        ([float("nan")], "level nan is outside"),
        ([True], "level True is outside"),
        (["0.1"], "outside"),
        ([], "no levels given"),
        ([0.1, 0.1], "stands twice"),
    ],
)
def test_levels_are_fractions(levels, said):
    with pytest.raises(ValueError, match=said):
        checked_levels(levels)


def test_one_level_or_many_in_order():
    assert checked_levels(0.5) == (0.5,)
    assert checked_levels((1, 0.25)) == (0.25, 1.0)
