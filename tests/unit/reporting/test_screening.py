"""The screening tables: numbers, sentences, LaTeX."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.screening import screening
from hvp_patching.reporting.tables.screening import TABLE
from hvp_patching.reporting.tables.screening_sites import TABLE as SITES
from hvp_patching.reporting.tables.screening_words import (
    coverage_sentence,
    screening_label,
    screening_style,
    where_each_wins,
)

N = 60
OPERATIONS = {"forward": 0.5, "base_run": 1.0, "reverse_pass": 4.0, "patching": 19.0}
OPERATIONS |= {"order_2_at_zero": 39.0, "relp": 5.0}


def results(n=N, n_prompts=2):
    draw = np.random.default_rng(0)
    frames = []
    for prompt in range(n_prompts):
        truth = draw.normal(size=n)
        error = draw.normal(size=n) / 3
        for i, name in enumerate(("ap", "hvp", "relp")):
            frames.append(
                pd.DataFrame(
                    {"prompt_id": f"p{prompt}", "layer": np.arange(n) // 10}
                    | {"index": np.arange(n) % 10, "estimator": name, "cost": i + 1}
                    | {"estimate": truth + error / (i + 1), "truth": truth}
                )
            )
    rows = [
        (name, 1 if name in ("forward", "base_run") else n, t) for name, t in OPERATIONS.items()
    ]
    costs = pd.DataFrame(rows, columns=["operation", "rows", "seconds"])
    return pd.concat(frames), costs.assign(device="cpu", threads=2)


@pytest.fixture(scope="module")
def measured():
    return screening(*results(), repeats=20, n_resamples=50)


@pytest.fixture
def made(show, measured):
    parts = [
        measured.assign(model=model, task=task, corruption="")
        for model, task in (("smollm2-135m", "ioi"), ("gemma-3-270m", "factual"))
    ]
    return show("screening", screening=pd.concat(parts))


@pytest.fixture
def frame(made):
    return made.frame[made.frame["task"] == "ioi"]


def test_fractions_are_percent(frame, measured):
    assert list(frame.columns) == TABLE.columns.split()
    for ours, theirs in (("coverage_pct", "coverage"), ("cost_pct", "cost_share")):
        np.testing.assert_allclose(frame[ours], 100 * measured[theirs])
    np.testing.assert_allclose(frame["recall_10_ci_low"], measured["recall_low"])


def changed(frame, method, budget, **values):
    frame = frame.copy()
    budgets = frame["budget"].isna() if budget is None else frame["budget"] == budget
    where = (frame["method"] == method) & budgets & ~frame["pooled"].astype(bool)
    assert where.sum() == 1
    frame.loc[where, list(values)] = list(values.values())
    return frame


def test_the_sentence_says_where_each_wins(frame):
    for budget, recall, cost in ((0.15, 0.7, 31), (0.3, 0.9, 44), (0.5, 0.97, 62)):
        frame = changed(frame, "largest_upper", budget, recall_10=recall, cost_pct=cost)
    others = frame["method"].isin(["ap", "rho", "half_q", "random"]) & frame["budget"].notna()
    frame.loc[others, "recall_10"] = 0.5
    frame = changed(frame, "rho", 0.3, recall_10=0.9)
    for method, recall, cost in (("ap", 0.6, 20), ("hvp", 0.65, 200), ("relp", 0.5, 25)):
        frame = changed(frame, method, None, recall_10=recall, cost_pct=cost)
    frame = changed(frame, "screen_flag_fix", None, recall_10=0.65, cost_pct=210)
    text = where_each_wins(frame)
    assert "screening finds 0.70 at 31% of its time, 0.90 at 44%" in text
    assert "without any patch the best is Std HVP: 0.65 at 200%." in text
    assert "A recall of 0.95 at half the time is not reached." in text
    assert "15%: Largest upper end (0.70); 30%: " in text
    assert (
        "Largest upper end and Largest reliability score (0.90)" in text
        or "Largest reliability score and Largest upper end" in text
    )
    reached = changed(frame, "largest_upper", 0.3, recall_10=0.96)
    assert "A recall of 0.95 at half the time is reached." in where_each_wins(reached)


def test_a_coverage_below_its_promise_is_named(frame):
    assert coverage_sentence(frame).startswith(
        "Coverage is nowhere below 90% beyond its binomial error ("
    )
    low = changed(frame, "random", 0.3, coverage_ci_high_pct=89.9)
    assert (
        "Coverage is below 90% beyond its binomial error: SmolLM2-135M, IOI, At random at 30%."
        in coverage_sentence(low)
    )
    low = changed(frame, "largest_upper", 0.5, bound_ci_high_pct=80)
    assert "The bound on the missed is below 90%" in coverage_sentence(low)
    never = frame.assign(n_runs=0)
    assert "Coverage was never put to the test: too few components." in coverage_sentence(never)


def test_latex_has_both_grids(made, provenance, compiles):
    text = TABLE.tex(made, provenance)
    assert text.count(r"\begin{tabular}") == 2
    assert r"\textit{SmolLM2-135M, IOI: 60 heads}" in text
    assert r"30\%, pooled" in text
    lines = [line for line in text.splitlines() if line.startswith("SmolLM2-135M, IOI & ")]
    assert len(lines) == 0
    assert "Few prompts (as few as $n = 2$)" in text
    assert "Recall of the true ten" in TABLE.html(made, provenance)
    compiles(text)


def test_what_is_below_its_promise_is_bold(made, provenance):
    made.frame.loc[made.frame["method"] == "largest_upper", "coverage_ci_high_pct"] = 50.0
    assert r"\textbf{" in TABLE.tex(made, provenance)


def test_sites_have_a_line_each(show, measured, provenance, compiles):
    few = screening(*results(n=9)[:1], policies=("largest_upper", "random"), repeats=3)
    parts = [
        part.assign(model="smollm2-135m", task="factual", corruption="", site=site)
        for site, part in (("attn_heads", measured), ("mlp_out", few))
    ]
    shown = show("screening_sites", screening_sites=pd.concat(parts))
    text = SITES.tex(shown, provenance)
    rows = {line.split(" & ")[0]: line.split(" & ") for line in text.splitlines() if " & " in line}
    assert rows["MLP output"][1:6] == ["9", "--", "--", "--", "--"]
    assert rows["Attention heads"][1] == "60"
    assert len(rows) == 3 + 1
    assert r"Coverage is nowhere below 90\%" in text
    assert "Attention heads" in SITES.html(shown, provenance)
    compiles(text)


def test_labels():
    assert screening_label("ig_10", np.nan) == "IG (N=10)"
    assert screening_label("ap", np.nan) == "AP"
    assert screening_label("ap", 0.3) == "Largest AP"
    assert screening_label("screen_flag_fix", np.nan) == "Screen–Flag–Fix"
    assert screening_style("random", 0.3).name == "At random"
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        screening_style("magic", 0.3)


def test_write_leaves_both_files(written, measured, tmp_path):
    measured.to_parquet(tmp_path / "a.parquet")
    back, text = written("screening", {"screening": [tmp_path / "a.parquet"]}, ["smollm2-135m/ioi"])
    assert len(back) == len(measured)
    assert r"\label{tab:screening}" in text
    csv = (tmp_path / "screening.csv").read_text()
    assert "# SmolLM2-135M, IOI: Of the ten largest effects" in csv
