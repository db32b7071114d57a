"""CPR, CMD and average over prompts, on frames made by hand."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.circuits import (
    circuit_curve,
    circuit_differences,
    circuit_summary,
)
from hvp_patching.metrics.faithfulness import FaithfulnessError


def values(m: dict[str, list[float]], clean: list[float], corrupted: float = 0.0) -> pd.DataFrame:
    """Two levels, 0.5 and 1, of one method; m: every prompt's at both."""
    rows = [
        {
            "prompt_id": prompt,
            "method": "eap",
            "selection": "signed",
            "level": level,
            "n_edges": int(10 * level),
            "n_kept": int(10 * level),
            "m": value,
            "m_clean": whole,
            "m_corrupted": corrupted,
        }
        for (prompt, own), whole in zip(m.items(), clean, strict=True)
        for level, value in zip((0.5, 1.0), own, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_areas_are_those_of_the_ratio_of_means() -> None:
    frame = values({"a": [1.0, 2.0], "b": [5.0, 6.0]}, clean=[2.0, 6.0])
    row = circuit_summary(frame, n_resamples=100).iloc[0]
    f = 6 / 8  # (1 + 5) / (2 + 6), not the mean of 1/2 and 5/6
    assert row["cpr"] == pytest.approx((f + 1) / 2 * 0.5)
    assert row["cmd"] == pytest.approx((1 - f) / 2 * 0.5)
    assert row["average"] == pytest.approx((f + 1) / 2)
    assert row["n_prompts"] == 2


def test_intervals_are_those_of_all_resamples_of_two_prompts() -> None:
    frame = values({"a": [1.0, 2.0], "b": [5.0, 6.0]}, clean=[2.0, 6.0])
    row = circuit_summary(frame, n_resamples=2000).iloc[0]
    ends = [(share + 1) / 2 for share in (1 / 2, 5 / 6)]  # one prompt drawn twice
    assert [row["average_low"], row["average_high"]] == pytest.approx(ends)
    assert row["cpr_low"] < row["cpr"] < row["cpr_high"]


def test_a_single_prompt_has_no_interval() -> None:
    row = circuit_summary(values({"a": [1.0, 2.0]}, [2.0]), n_resamples=100).iloc[0]
    assert np.isnan(row["cpr_low"])
    assert np.isfinite(row["cpr"])


def test_the_order_of_rows_changes_nothing() -> None:
    frame = values({"a": [1.0, 2.0], "b": [5.0, 6.0], "c": [2.0, 4.0]}, clean=[2.0, 6.0, 4.0])
    again = frame.iloc[::-1].reset_index(drop=True)
    first, second = (circuit_summary(one, n_resamples=100) for one in (frame, again))
    pd.testing.assert_frame_equal(first, second)


def test_a_missing_level_or_column_is_refused() -> None:
    frame = values({"a": [1.0, 2.0], "b": [5.0, 6.0]}, clean=[2.0, 6.0])
    with pytest.raises(FaithfulnessError, match="lacks a level"):
        circuit_summary(frame.iloc[:-1])
    with pytest.raises(FaithfulnessError, match="lack the column 'selection'"):
        circuit_summary(frame.drop(columns="selection"))


def both(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> pd.DataFrame:
    clean = [2.0, 6.0]
    methods = {"eap": theirs, "exact": ours}
    return pd.concat([values(m, clean).assign(method=name) for name, m in methods.items()])


def test_differences_are_of_the_same_resamples() -> None:
    theirs = {"a": [1.0, 2.0], "b": [5.0, 6.0]}
    ours = {name: [m[0] + 0.5 * m[1], m[1]] for name, m in theirs.items()}  # f is higher by 1/2
    found = circuit_differences(both(ours, theirs), n_resamples=500)
    assert len(found) == 6  # two ordered pairs, three areas
    row = found[(found["first"] == "exact") & (found["area"] == "average")].iloc[0]
    assert row["difference"] == pytest.approx(0.25)  # the mean of 1/2 and 0
    assert [row["ci_low"], row["ci_high"]] == pytest.approx([0.25, 0.25])  # in every resample
    assert row["n_prompts"] == 2
    back = found[(found["first"] == "eap") & (found["area"] == "average")].iloc[0]
    assert back["difference"] == pytest.approx(-row["difference"])


def test_differences_between_different_prompts_are_refused() -> None:
    m = {"a": [1.0, 2.0], "b": [5.0, 6.0]}
    frame = both(m, m)
    frame.loc[(frame["method"] == "eap") & (frame["prompt_id"] == "b"), "prompt_id"] = "c"
    with pytest.raises(FaithfulnessError, match="different prompts"):
        circuit_differences(frame, n_resamples=10)


def test_the_curve_is_the_share_of_the_gap_at_each_level() -> None:
    curve = circuit_curve(values({"a": [1.0, 2.0], "b": [5.0, 6.0]}, clean=[2.0, 6.0]))
    assert curve["f"].tolist() == pytest.approx([6 / 8, 1.0])
    assert curve["level"].tolist() == [0.5, 1.0]
    assert set(curve["n_prompts"]) == {2}
