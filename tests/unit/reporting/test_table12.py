"""Table 12: errors by corruption."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.summary import medians
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table12 import TABLE
from hvp_patching.settings import Setting

AP = np.array([0.05, 0.07, 0.06, 0.08, 0.09, 0.04, 0.1])
SHARES = {"name_swap": 0.2, "resample": 0.3, "zero": 0.5}


def errors(share, ap=AP, nontrivial=10):
    rows = [
        {
            "prompt_id": f"p{i}",
            "estimator": name,
            "cost": cost,
            "n_components": 12,
            "n_nontrivial": nontrivial,
            "top_k_relative_error": 0.5,
            "median_relative_error": value,
        }
        for name, cost, values in (("ap", 1, ap), ("hvp", 2, share * ap))
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


ALL = {
    f"{model}/ioi/{corruption}": errors(share)
    for model in ("gpt2-small", "smollm2-135m")
    for corruption, share in SHARES.items()
}


@pytest.fixture
def made(show, each):
    def make(tables=ALL):
        parts = [table.assign(**vars(Setting.parse(name))) for name, table in tables.items()]
        return show("table12", medians=each(pd.concat(parts), medians, n_resamples=200))

    return make


def test_rows_are_medians_and_paired_reductions(made):
    frame = made().frame
    assert list(frame.columns) == TABLE.columns.split()
    assert frame["corruption"].tolist() == [*SHARES] * 2
    assert frame["ap_pct"].tolist() == pytest.approx([100 * np.median(AP)] * 6)
    assert frame["hvp_pct"].tolist()[:3] == pytest.approx([1.4, 2.1, 3.5])
    # HVP is the same share of AP on every prompt, so that resampling moves no reduction.
    for column in ("reduction_pct", "reduction_ci_low_pct", "reduction_ci_high_pct"):
        assert frame[column].tolist()[:3] == pytest.approx([80, 70, 50])
    assert (frame["ap_ci_low"] < frame["ap_pct"]).all()
    assert (frame["n_records"] == 70).all()


def test_the_paper_stands_beside_the_same_corruption_alone(made):
    frame = made().frame
    assert frame["published_reduction_pct"].tolist()[1:3] == [82.5, 83.5]
    assert frame["published_ap_pct"].isna().tolist() == [True, False, False, True, True, True]


def test_auxiliary_rows_without_a_task_match_nothing(made):
    frame = made({"gemma-2-2b/ioi/zero": errors(0.1)}).frame
    assert frame["published_ap_pct"].isna().all()


def test_both_files_are_written(written, tmp_path):
    paths = [tmp_path / name.replace("/", "-") for name in ALL]
    for path, table in zip(paths, ALL.values(), strict=True):
        medians(table, n_resamples=200).to_parquet(path)
    frame, text = written("table12", {"medians": paths}, list(ALL))
    assert len(frame) == 6
    assert "name swap" in text
    assert text.count("{paper}") == 2
    assert "SmolLM2-135M stands in for the paper's Gemma-2-2B, Pythia-1B, GPT-2 small" in text
    assert "zero: the patched activation set to zero at every position" in text
    assert "random token" not in text


def test_it_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made(), provenance))


def test_a_setting_without_effects_is_a_gap(made, provenance):
    silent = errors(0.1, nontrivial=0).assign(median_relative_error=float("nan"))
    shown = made({"m/ioi/zero": silent, "m/ioi/resample": errors(0.1)})
    assert shown.frame.loc[0, ["ap_pct", "reduction_pct"]].isna().all()
    assert "zero & 7 & -- & -- & --" in TABLE.tex(shown, provenance)


def test_a_setting_must_name_its_corruption(made):
    with pytest.raises(ReportError, match="'gpt2-small/ioi' names no corruption: write it as"):
        made({"gpt2-small/ioi": errors(0.1)})


def test_hvp_is_needed(made):
    with pytest.raises(ReportError, match="m/ioi/zero: Table 12 needs the errors of 'hvp'"):
        made({"m/ioi/zero": errors(0.1).query("estimator == 'ap'")})
