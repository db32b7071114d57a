"""Table 4: overlap of top heads, ours and the paper's."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.summary import summarize
from hvp_patching.reporting.tables.table4 import TABLE

AT_K = {"column": "overlap", "by": ["k"], "n_resamples": 300}
ESTIMATORS = ("ap", "hvp", "ms_hvp_5", "ig_10", "ih_pi_5", "gim")


def overlap(seed, n_prompts=8, estimators=ESTIMATORS, ks=(5, 10, 20)):
    rng = np.random.default_rng(seed)
    rows = [
        {"prompt_id": f"p{i}", "estimator": name, "k": k, "overlap": rng.integers(0, k + 1) / k}
        for i in range(n_prompts)
        for name in estimators
        for k in ks
    ]
    return pd.DataFrame(rows)


def with_key(frame, model, task="greater_than", corruption=""):
    return frame.assign(model=model, task=task, corruption=corruption)


@pytest.fixture
def made(show, each):
    return lambda *parts: show("table4", overlap_summary=each(pd.concat(parts), summarize, **AT_K))


def one(frame, **where):
    chosen = frame
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_cells_are_means_over_prompts_and_the_papers_stand_beside(made):
    ours = overlap(1)
    frame = made(with_key(ours, "gpt2-small"), with_key(overlap(2), "smollm2-135m")).frame
    assert list(frame.columns) == TABLE.columns.split()
    assert len(frame) == 2 * 5 * 3
    cell = one(frame, model="gpt2-small", method="ms_hvp", k=5)
    values = ours.query("estimator == 'ms_hvp_5' and k == 5")["overlap"]
    assert cell["overlap_pct"] == pytest.approx(100 * sum(values) / 8)
    assert 100 * values.min() <= cell["ci_low"] < cell["overlap_pct"] < cell["ci_high"]
    assert cell["ci_high"] <= 100 * values.max()
    assert cell["published_overlap_pct"] == 83.2
    assert one(frame, model="gpt2-small", method="gim", k=20)["published_overlap_pct"] == 46.8
    assert frame.loc[frame["model"] == "smollm2-135m", "published_overlap_pct"].isna().all()


def test_another_corruption_is_not_the_papers_setting(made):
    frame = made(with_key(overlap(1), "gpt2-small", corruption="zero")).frame
    assert frame["published_overlap_pct"].isna().all()


def test_the_fragment_says_what_and_whose(made, provenance, compiles):
    shown = made(with_key(overlap(1), "gpt2-small"), with_key(overlap(2), "smollm2-135m"))
    text = TABLE.tex(shown, provenance)
    assert text.startswith("% profile: embedded; effort: quick\n")
    assert "SmolLM2-135M stands in for the paper's GPT-2 small and Pythia-410M." in text
    assert "MS-HVP (K=5)" in text
    assert text.count("{paper}") == 5
    assert "83.2" in text
    assert "Few prompts" not in text
    compiles(text)


def test_what_is_missing_is_a_gap_and_few_prompts_are_owned_up_to(made, provenance, compiles):
    few = overlap(1, n_prompts=3, estimators=("ap", "hvp"))
    few.loc[few["k"] == 20, "overlap"] = float("nan")  # fewer than 20 heads
    shown = made(with_key(few, "tiny-gpt2"))
    frame = shown.frame
    assert one(frame, method="gim", k=5)[["overlap_pct", "ci_low"]].isna().all()
    assert one(frame, method="ap", k=20)[["overlap_pct"]].isna().all()
    text = TABLE.tex(shown, provenance)
    assert "--: not computed, or fewer heads than $k$." in text
    assert "Few prompts (as few as $n = 3$)" in text
    assert "Grey" not in text
    compiles(text)


def test_the_highest_of_a_column_is_bold(made, provenance):
    flat = overlap(1)
    flat["overlap"] = flat["estimator"].map({"ap": 0.2, "hvp": 0.4, "gim": 0.1}).fillna(0.8)
    text = TABLE.tex(made(with_key(flat, "m")), provenance)
    assert text.count(r"\textbf{80.0}") == 6  # MS-HVP and IG, at each k
    assert text.count(r"\textbf") == 6


def test_both_files_are_written(written, tmp_path):
    summarize(overlap(1), **AT_K).to_parquet(tmp_path / "a.parquet")
    inputs = {"overlap_summary": [tmp_path / "a.parquet"]}
    frame, text = written("table4", inputs, ["smollm2-135m/greater_than"])
    assert len(frame) == 15
    assert "% profile: embedded" in text
