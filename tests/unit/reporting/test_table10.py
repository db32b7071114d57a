"""Table 10: GIM's overlap against AP's."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.aggregates import by_setting
from hvp_patching.metrics.paired import marks, paired, tally
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table10 import TABLE, gim_sentence

AP = {5: [0.8, 0.6, 1.0, 0.8, 0.6, 0.8], 10: [0.7, 0.8, 0.6, 0.7, 0.9, 0.7], 20: [0.5] * 6}
LOWER = {k: [value - 0.2 for value in values] for k, values in AP.items()}
MIXED = {5: [1.0, 0.6, 1.0, 1.0, 0.8, 0.8], 10: AP[10], 20: [0.55, 0.45] * 3}


def overlap(model, gim, task="ioi", **others):
    rows = [
        {"prompt_id": f"p{i}", "estimator": name, "k": k, "overlap": value}
        for name, table in {"ap": AP, "gim": gim, **others}.items()
        for k, values in table.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(model=model, task=task, corruption="")


OPTIONS = {"column": "overlap", "by": ["k"], "n_resamples": 400, "higher_is_better": True}


@pytest.fixture
def made(show, each):
    def make(*parts, baselines=("gim",)):
        table = pd.concat(parts)
        pairs = each(table, paired, ["ap"], **OPTIONS)
        found = marks(pairs, baselines, "ap")
        counts = tally(found, ["gim"], "ap")
        settings = list(by_setting(table))
        options = {"baselines": list(baselines)}
        return show("table10", settings, options, marks_table10=found, tally_gim=counts)

    return make


@pytest.fixture
def shown(made):
    return made(overlap("gemma-2-2b", LOWER), overlap("gemma-3-270m", MIXED))


@pytest.fixture
def frame(shown):
    return shown.frame


def test_rows_are_paired_means(frame):
    assert list(frame.columns) == TABLE.columns.split()
    assert frame["k"].tolist() == [5, 10, 20] * 2
    assert frame["ap_pct"].tolist()[:3] == pytest.approx([100 * np.mean(AP[k]) for k in AP])
    assert frame["overlap_pct"].tolist()[3:] == pytest.approx([100 * np.mean(MIXED[k]) for k in AP])
    assert frame["difference_pp"].tolist() == pytest.approx([-20, -20, -20, 10, 0, 0])
    assert frame["p"].tolist()[:3] == pytest.approx([2 / 401] * 3)
    assert frame["p"][4] == 1.0
    assert frame["ci_low"][3] < 10 < frame["ci_high"][3]


def test_the_papers_sign_is_the_one_inferred(frame):
    first = frame.iloc[0]
    assert first[["published_ap_pct", "published_gim_pct"]].tolist() == [86.8, 87.2]
    assert first["published_difference_sign"] * first["published_abs_difference_pp"] == 0.4
    assert frame["published_ap_pct"].isna().tolist() == [False, False, True, True, True, True]


def test_settings_in_which_gim_is_worse_are_counted(shown, frame):
    assert gim_sentence(shown.results.one("tally_gim"), [5, 10, 20]) == (
        "GIM's overlap is below AP's in 3 of 6 comparisons (settings and k = 5, 10, 20; 3 at "
        "p < 0.05, 3 survive Benjamini-Hochberg), above it in 1 (0 and 0)."
    )


def test_the_fragment_shows_two_ks_of_each_setting(shown, provenance, compiles):
    text = TABLE.tex(shown, provenance)
    assert "(settings and k = 5, 10, 20; 3 at" in text
    assert "Top-5" in text
    assert "Top-20" not in text
    assert r"$-$20.0 & 0.005\rlap{$^{\circ\circ}$}" in text
    assert "$+$10.0" in text
    assert "$+$0.4" in text
    assert "$-$4.2" in text
    assert text.count("{paper}") == 1
    compiles(text)


def test_every_baseline_has_its_line_and_the_paper_stands_beside_gim_alone(made, provenance):
    table = overlap("gemma-2-2b", LOWER, relp=MIXED)
    shown = made(table, baselines=("relp", "gim"))
    frame = shown.frame.set_index(["method", "k"])
    assert frame.loc[("relp", 5), "overlap_pct"] == pytest.approx(100 * np.mean(MIXED[5]))
    assert frame.loc["relp", "published_gim_pct"].isna().all()
    assert frame.loc[("gim", 5), "published_gim_pct"] == 87.2
    text = TABLE.tex(shown, provenance)
    assert [text.index(name) for name in ("\nAP", "\nRelP", "\nGIM", "{paper}")] == sorted(
        text.index(name) for name in ("\nAP", "\nRelP", "\nGIM", "{paper}")
    )
    assert "RelP: gradients by relevance propagation." in text


def test_a_k_above_the_number_of_heads_is_left_out(made, provenance, compiles):
    few = overlap("tiny-gpt2", LOWER)
    few.loc[few["k"] >= 10, "overlap"] = float("nan")
    shown = made(few)
    assert shown.frame["k"].tolist() == [5]
    text = TABLE.tex(shown, provenance)
    assert "-- & -- & --" in text
    compiles(text)


def test_a_missing_method_is_named(made):
    with pytest.raises(ReportError, match="m/ioi: no comparison of 'gim' with 'ap'"):
        made(overlap("n", LOWER), overlap("m", LOWER).query("estimator == 'ap'"))


def test_both_files_are_written(written, tmp_path):
    own = overlap("m", LOWER).drop(columns=["model", "task", "corruption"])
    pairs = paired(own, ["ap"], **OPTIONS)
    found = marks(pairs.assign(model="m", task="ioi", corruption=""), ["gim"], "ap")
    found.to_parquet(tmp_path / "a.parquet")
    tally(found, ["gim"], "ap").to_parquet(tmp_path / "b.parquet")
    inputs = {"marks_table10": [tmp_path / "a.parquet"], "tally_gim": [tmp_path / "b.parquet"]}
    frame, text = written("table10", inputs, ["m/ioi"])
    assert frame["difference_pp"].tolist() == pytest.approx([-20] * 3)
    assert "below AP's in 3 of 3" in text
