"""Errors in every reading of the truth, and how near their pattern comes to the paper's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvp_patching.aggregates import FRAMES
from hvp_patching.frames import AS_DEFINED, FLOOR_METHODS, MEAN_FIRST, FrameError
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.floors import OF_ALL, fit, floor_errors, paper_pattern

PUBLISHED = pd.read_csv(Path(__file__).parents[3] / "data/published/table02.csv")
OFF = {"ap": 0.4, "hvp": 0.3, "ms_hvp_5": 0.1, "ig_10": 0.05}  # of the range, every component


def scores(reading=AS_DEFINED, changed=True, off=OFF, signs=(1, 1), truths=(1.0, -0.5, 0.25)):
    """Two prompts of three components, whose errors have these signs."""
    frames = [
        pd.DataFrame(
            {
                "prompt_id": f"p{prompt}",
                "layer": 0,
                "index": range(len(truths)),
                "estimator": method,
                "estimate": np.array(truths) + sign * 2.0 * off[method],
                "truth": truths,
                "cost": 1,
                "truth_range": 2.0,
                "reading": reading,
                "changed": changed,
            }
        )
        for prompt, sign in enumerate(signs)
        for method in FLOOR_METHODS
    ]
    return pd.concat(frames, ignore_index=True)


def test_every_reading_has_the_errors_of_its_own_rows():
    half = {name: value / 2 for name, value in OFF.items()}
    every = pd.concat([scores(), scores("bos", off=half), scores("redrawn", False)])
    table = floor_errors(every, 3)
    assert list(table["reading"].unique()) == [AS_DEFINED, "bos", "redrawn"]
    assert set(FRAMES["floor_errors"].columns) <= set(table.columns)
    for row in table.itertuples():
        expected = OFF[row.estimator] / (2 if row.reading == "bos" else 1)
        assert row.top_k_relative_error == pytest.approx(expected)
        assert row.changed == (row.reading != "redrawn")
    assert len(table) == 3 * 2 * len(FLOOR_METHODS)


def test_errors_of_opposite_signs_cancel_where_the_mean_comes_first():
    both = pd.concat([scores(signs=(1, -0.5)), scores(MEAN_FIRST, signs=(1, -0.5))])
    table = floor_errors(both, 3)
    means = table.groupby(["reading", "estimator"])["top_k_relative_error"].mean()
    for method, off in OFF.items():
        assert means[AS_DEFINED, method] == pytest.approx(0.75 * off)
        assert means[MEAN_FIRST, method] == pytest.approx(0.25 * off)
    first = table[table["reading"] == MEAN_FIRST]
    assert first["prompt_id"].unique().tolist() == [OF_ALL]
    assert len(first) == len(FLOOR_METHODS)


def test_scores_without_their_reading_are_refused():
    with pytest.raises(FrameError, match="lacks the columns reading"):
        floor_errors(scores().drop(columns="reading"))


def test_the_papers_pattern_is_the_median_over_its_models():
    pattern = paper_pattern(PUBLISHED)
    assert list(pattern.index) == ["factual", "greater_than", "ioi"]
    # five models each: Qwen's and Gemma's HVP, Qwen's MS-HVP
    assert pattern.loc["ioi", "hvp_ratio"] == pytest.approx(9.07 / 16.53)
    assert pattern.loc["ioi", "floor_ratio"] == pytest.approx(2.94 / 14.80)
    # Gemma-2-2B's floor cells are empty: the median of the other three
    assert pattern.loc["greater_than", "floor_ratio"] == pytest.approx(23.33 / 44.06)
    assert pattern.loc["factual", "floor_ratio"] == pytest.approx(48.69 / 53.19)


def errors(reading, model="m", **tasks):
    """Rows of floor_errors, two prompts around task=(ap, hvp, ms_hvp, ig)."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "task": task,
                "corruption": "",
                "reading": reading,
                "prompt_id": prompt,
                "estimator": method,
                "top_k_relative_error": size * value,
                "changed": True,
            }
            for prompt, size in (("p0", 0.5), ("p1", 1.5))
            for task, values in tasks.items()
            for method, value in zip(FLOOR_METHODS, values, strict=True)
        ]
    )


def of_paper(task, factor=1.0, shift=0.0):
    """Errors whose ratios are the paper's times a factor, plus a shift."""
    hvp, floor = paper_pattern(PUBLISHED).loc[task]
    floor = floor * factor + shift
    return (0.5, 0.5 * (hvp * factor + shift), 0.5 * floor, 0.6 * floor)


def test_distances_are_those_that_the_errors_were_made_with():
    tasks = ("ioi", "greater_than", "factual")
    table = fit(
        pd.concat(
            [
                errors(AS_DEFINED, **{task: of_paper(task, 0.1) for task in tasks}),
                errors("redrawn", **{task: of_paper(task, 1.5) for task in tasks}),
                errors("other_base", **{task: of_paper(task, shift=0.07) for task in tasks}),
            ]
        ),
        PUBLISHED,
    )
    assert len(table) == 9
    assert set(table.columns) == set(FRAMES["fit"].columns)
    one = table.drop_duplicates("reading").set_index("reading")
    assert one.loc[AS_DEFINED, "factor"] == pytest.approx(10)
    assert one.loc["redrawn", "factor"] == pytest.approx(1.5)
    assert one.loc["other_base", "gap"] == pytest.approx(0.07)
    np.testing.assert_allclose(one["factor"], one["overall_factor"])
    np.testing.assert_allclose(one["gap"], one["overall_gap"])
    assert one["rank"].to_dict() == {AS_DEFINED: 3, "redrawn": 2, "other_base": 1}
    pattern = paper_pattern(PUBLISHED)
    for row in table.itertuples():
        assert row.paper_hvp_ratio == pattern.loc[row.task, "hvp_ratio"]
        assert row.paper_floor_ratio == pattern.loc[row.task, "floor_ratio"]


def test_models_are_joined_by_their_mean_squares():
    table = fit(
        pd.concat(
            [
                errors(AS_DEFINED, "a", ioi=of_paper("ioi", 2.0)),
                errors(AS_DEFINED, "b", ioi=of_paper("ioi", 8.0)),
            ]
        ),
        PUBLISHED,
    )
    assert table["factor"].tolist() == pytest.approx([2.0, 8.0])
    expected = np.exp(np.sqrt((np.log(2) ** 2 + np.log(8) ** 2) / 2))
    assert table["overall_factor"].tolist() == pytest.approx([expected] * 2)


def test_a_reading_of_fewer_tasks_is_not_ranked():
    both = {task: of_paper(task, 3.0) for task in ("ioi", "factual")}
    table = fit(
        pd.concat([errors(AS_DEFINED, **both), errors("logit_difference", ioi=of_paper("ioi"))]),
        PUBLISHED,
    ).set_index("reading")
    assert not table.loc["logit_difference", "complete"]
    assert np.isnan(table.loc["logit_difference", "rank"])
    assert table.loc["logit_difference", "factor"] == pytest.approx(1)
    assert set(table.loc[AS_DEFINED, "rank"]) == {1}


def test_no_error_at_all_is_infinitely_far_off():
    table = fit(errors(AS_DEFINED, ioi=(0.5, 0.2, 0.0, 0.1)), PUBLISHED)
    assert table["factor"].tolist() == [np.inf]
    assert np.isfinite(table["gap"]).all()


def test_tasks_that_the_paper_lacks_are_left_out_and_refused_where_all_do():
    rows = pd.concat(
        [errors(AS_DEFINED, ioi=of_paper("ioi")), errors(AS_DEFINED, mcqa=(1, 1, 1, 1))]
    )
    assert fit(rows, PUBLISHED)["task"].tolist() == ["ioi"]
    with pytest.raises(ScoresError, match="none of the tasks mcqa"):
        fit(rows[rows["task"] == "mcqa"], PUBLISHED)


def test_prompts_are_drawn_again_for_all_readings_alike():
    """Every prompt's ratios are the mean's, so that no resample changes the order."""
    table = fit(
        pd.concat(
            [
                errors(AS_DEFINED, ioi=of_paper("ioi", 3.0)),
                errors("other_base", ioi=of_paper("ioi", 2.0)),
            ]
        ),
        PUBLISHED,
        n_resamples=50,
    ).set_index("reading")
    assert table["closest"].to_dict() == {AS_DEFINED: 0.0, "other_base": 1.0}


def test_readings_that_prompts_disagree_about_share_the_resamples():
    """Each reading is the paper's own on one prompt, and far off on the other."""
    near, far = (errors("x", ioi=of_paper("ioi", factor)) for factor in (1.0, 9.0))
    mixed = [
        pd.concat([a[a["prompt_id"] == "p0"], b[b["prompt_id"] == "p1"]]).assign(reading=reading)
        for reading, a, b in ((AS_DEFINED, near, far), ("other_base", far, near))
    ]
    shares = fit(pd.concat(mixed), PUBLISHED, n_resamples=200).set_index("reading")["closest"]
    assert shares.sum() == pytest.approx(1)
    assert shares.min() > 0.05
    again = fit(pd.concat(mixed), PUBLISHED, n_resamples=200).set_index("reading")["closest"]
    assert shares.to_dict() == again.to_dict()


def test_one_prompt_says_nothing_about_others():
    rows = errors(AS_DEFINED, ioi=of_paper("ioi", 3.0))
    table = fit(rows[rows["prompt_id"] == "p0"], PUBLISHED)
    assert table["closest"].isna().all()
    assert table["rank"].tolist() == [1]
