"""The floors: cells, distances, and the sentence that follows from the numbers."""

import pandas as pd
import pytest

from hvp_patching.frames import AS_DEFINED, FLOOR_METHODS, READINGS
from hvp_patching.metrics.floors import fit
from hvp_patching.metrics.summary import summarize
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.floors import TABLE
from hvp_patching.reporting.tables.floors_words import (
    LABELS,
    MEANINGS,
    conjecture,
    reading_label,
)

TASKS = ("ioi", "greater_than", "factual")
# errors of AP, HVP, MS-HVP and IG in each reading; the paper's ratios lie near the second one's
ERRORS = {
    AS_DEFINED: (0.30, 0.20, 0.03, 0.002),
    "redrawn": (0.30, 0.24, 0.15, 0.16),
    "other_base": (0.30, 0.29, 0.27, 0.27),
    "logit_difference": (0.30, 0.20, 0.05, 0.04),
}


PROMPTS = {f"p{i}": 0.8 + 0.05 * i for i in range(9)}  # the size of each one's errors


def errors(model="smollm2-135m", values=ERRORS, tasks=TASKS):
    """The frame floor_errors of nine prompts; a fact has no foil, a name swap no draw."""
    rows = []
    for task in tasks:
        for reading, four in values.items():
            if (task, reading) == ("factual", "logit_difference"):
                continue
            same = (task, reading) == ("ioi", "redrawn")
            four = values[AS_DEFINED] if same else four
            rows += [
                {
                    "model": model,
                    "task": task,
                    "corruption": "",
                    "reading": reading,
                    "changed": not same,
                    "estimator": method,
                    "cost": 1,
                    "prompt_id": prompt,
                    "top_k_relative_error": size * value,
                }
                for prompt, size in PROMPTS.items()
                for method, value in zip(FLOOR_METHODS, four, strict=True)
            ]
    return pd.DataFrame(rows)


@pytest.fixture
def made(show, paper, each):
    def make(*frames):
        every = pd.concat(frames) if frames else errors()
        summary = each(every, summarize, by=["reading", "changed"], n_resamples=50)
        fits = fit(every, paper(2), n_resamples=50)
        return show("floors", floor_summary=summary, fit_floors=fits)

    return make


def test_one_row_a_setting_and_reading_with_what_it_changes(made):
    frame = made().frame
    assert list(frame.columns) == TABLE.columns.split()
    assert len(frame) == len(TASKS) * len(ERRORS)
    states = frame.set_index(["task", "reading"])["state"]
    assert states["ioi", "redrawn"] == "as defined"
    assert states["factual", "logit_difference"] == "undefined"
    assert states["factual", "redrawn"] == "measured"
    own = frame.set_index(["task", "reading"]).loc[("factual", "redrawn")]
    assert own["hvp_pct"] == pytest.approx(24)
    assert 16 < own["ig_10_ci_high_pct"] < 0.16 * 120
    assert own["n_prompts"] == len(PROMPTS)
    assert own["floor_ratio"] == pytest.approx(0.5)


def test_cells_say_what_is_the_same_and_what_does_not_exist(made, provenance):
    text = TABLE.tex(made(), provenance)
    lines = [line.split(" & ") for line in text.splitlines() if " & " in line]
    first = {cells[0]: cells for cells in reversed(lines)}
    assert first["as defined"][1:5] == ["30.0", "20.0", "3.00", "0.20"]
    assert first["another random token"][1] == r"\multicolumn{4}{c}{= as defined}"
    assert first["another random token"][2:6] == ["30.0", "24.0", "15.0", "16.0"]
    assert [cell.removesuffix(r" \\") for cell in first["logit difference"][-4:]] == ["--"] * 4
    second = {cells[0]: cells for cells in lines}
    assert second["the other base run"][-2].startswith(r"\textbf{")  # by their logarithms
    assert second["another random token"][-1].startswith(r"\textbf{")  # by their differences
    assert all("gray" in cell for cell in second["logit difference"][-2:])


def test_the_sentence_names_the_closest_and_calls_it_a_conjecture(made, provenance):
    shown = made()
    text = conjecture(shown.frame)
    one = shown.frame.drop_duplicates("reading").set_index("reading")
    best, defined = one.loc["other_base"], one.loc[AS_DEFINED]
    assert best["rank"] == 1
    assert text.startswith("Closest to the paper's pattern: the other base run (the ratios miss")
    assert f"by a factor of {best['overall_factor']:.1f}, root mean square" in text
    assert f"closest in {100 * best['closest']:.0f}% of the resamples" in text
    assert f"as defined, by {defined['overall_factor']:.1f})" in text
    assert f"Next: another random token ({one.loc['redrawn', 'overall_factor']:.1f})." in text
    assert "By differences of the ratios instead of their logarithms it is: another random" in text
    assert "This is a conjecture" in text
    assert "Closest to the paper" in TABLE.html(shown, provenance)


def test_the_sentence_follows_the_numbers(made):
    values = {
        AS_DEFINED: (0.30, 0.16, 0.06, 0.06),
        "redrawn": (0.30, 0.28, 0.27, 0.27),
        "other_base": (0.30, 0.01, 0.001, 0.001),
    }
    text = conjecture(made(errors(values=values)).frame)
    assert text.startswith("Closest to the paper's pattern: another random token")
    assert "Next: the other base run" in text


def test_definitions_that_fit_best_are_said_to(made):
    best = {AS_DEFINED: (0.30, 0.24, 0.15, 0.16), "other_base": (0.30, 0.01, 0.001, 0.001)}
    text = conjecture(made(errors(values=best)).frame)
    assert text.startswith("No reading comes closer to the paper's pattern than the definitions")
    assert "Next: the other base run" in text


def test_models_that_disagree_are_named(made):
    other = {AS_DEFINED: ERRORS["redrawn"], "other_base": ERRORS[AS_DEFINED]}
    mine = {AS_DEFINED: (0.30, 0.20, 1e-5, 1e-5), "other_base": ERRORS["other_base"]}
    frames = [errors("smollm2-135m", mine), errors("gemma-3-270m", other)]
    text = conjecture(made(*frames).frame)
    assert "On Gemma-3-270M alone: as defined" in text


def test_every_reading_has_a_name_and_a_meaning():
    assert list(LABELS) == list(READINGS)
    assert list(MEANINGS) == list(READINGS[1:])
    with pytest.raises(ReportError, match="no reading 'noise' of the floors; choose of as_defined"):
        reading_label("noise")


def test_a_table_without_its_fit_still_has_its_errors(made):
    """Tasks that the paper's table lacks have no ratios."""
    frame = made(errors(), errors(tasks=("mcqa",))).frame
    rows = frame[frame["task"] == "mcqa"]
    assert rows["ap_pct"].notna().all()
    assert rows["paper_floor_ratio"].isna().all()


def test_it_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made(errors(), errors("gemma-3-270m")), provenance))


def test_write_leaves_both_files(written, paper, each, tmp_path):
    keys = ["model", "task", "corruption"]
    every = errors()
    paths = []
    for task, rows in every.groupby("task", sort=False):
        paths.append(tmp_path / f"{task}.parquet")
        summary = each(rows, summarize, by=["reading", "changed"], n_resamples=50)
        summary.drop(columns=keys).to_parquet(paths[-1])
    fit(every, paper(2), n_resamples=50).to_parquet(tmp_path / "fit.parquet")
    inputs = {"floor_summary": paths, "fit_floors": [tmp_path / "fit.parquet"]}
    back, text = written("floors", inputs, [f"smollm2-135m/{task}" for task in TASKS])
    assert r"\label{tab:floors}" in text
    assert len(back) == len(TASKS) * len(ERRORS)
    assert "This is a conjecture" in (tmp_path / "floors.csv").read_text()
