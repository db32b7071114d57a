"""Table 9: MS-HVP against integrated Hessians."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.paired import marks, paired, tally
from hvp_patching.metrics.summary import summarize
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table9 import TABLE, comparison_sentence

COSTS = {"ap": 1, "hvp": 2, "ms_hvp_5": 10, "ih_pi_5": 10, "ih_dr_3": 18, "ih_dr_5": 50}
BASE = np.array([0.30, 0.20, 0.25, 0.35, 0.15, 0.2, 0.3, 0.25])
SHARES = {"ap": 1, "hvp": 0.7, "ms_hvp_5": 0.1, "ih_pi_5": 0.5, "ih_dr_3": 0.4, "ih_dr_5": 0.45}


def sweep(model, task="ioi", shares=SHARES, n=8):
    rows = [
        {"prompt_id": f"p{i}", "estimator": name, "cost": COSTS[name], "top_k_relative_error": v}
        for name, share in shares.items()
        for i, v in enumerate(share * BASE[:n])
    ]
    return pd.DataFrame(rows).assign(model=model, task=task, corruption="")


IHS = ["ih_pi_5", "ih_dr_3", "ih_dr_5"]


@pytest.fixture
def made(show, each):
    def make(*parts, n_resamples=50):
        table = pd.concat(parts)
        pairs = each(table, paired, ["ap", "ms_hvp_5"], n_resamples=n_resamples)
        means = each(table, summarize, n_resamples=n_resamples)
        found = marks(pairs, ["ap", *IHS], "ms_hvp_5")
        own = {"marks_table9": found, "tally_ih": tally(found, IHS, "ms_hvp_5")}
        return show("table9", hessian_summary=means, hessian_paired=pairs, **own)

    return make


@pytest.fixture
def shown(made):
    return made(sweep("pythia-410m"), sweep("gemma-3-270m"), n_resamples=300)


@pytest.fixture
def frame(shown):
    return shown.frame


def test_rows_are_means_and_gains_over_ap(frame):
    assert list(frame.columns) == TABLE.columns.split()
    first = frame[frame["model"] == "pythia-410m"].set_index("estimator")
    assert list(first.index) == ["ap", "ms_hvp_5", "ih_pi_5", "ih_dr_3", "ih_dr_5"]
    assert first["cost"].tolist() == [1, 10, 10, 18, 50]
    mean = 100 * BASE.mean()
    assert first["top5_rel_error_pct"].tolist() == pytest.approx(
        [mean, 0.1 * mean, 0.5 * mean, 0.4 * mean, 0.45 * mean]
    )
    assert first["vs_ap_pp"].tolist()[1:] == pytest.approx(
        [-0.9 * mean, -0.5 * mean, -0.6 * mean, -0.55 * mean]
    )
    assert np.isnan(first["vs_ap_pp"]["ap"])
    # MS-HVP is lower on every prompt, so that p is as small as the resamples allow.
    others = first.drop("ms_hvp_5")
    assert others["p_vs_ms_hvp"].tolist() == pytest.approx([2 / 301] * 4)
    assert others["verdict_vs_ms_hvp"].tolist() == ["loss"] * 4
    assert np.isnan(first["p_vs_ms_hvp"]["ms_hvp_5"])
    # eight comparisons, each of the smallest p that eight prompts support
    assert others["q_vs_ms_hvp"].tolist() == pytest.approx([2 * 0.5**8] * 4)


def test_the_papers_rows_are_found_by_method_and_cost(frame):
    theirs = frame[frame["model"] == "pythia-410m"].set_index("estimator")["published_pct"]
    assert theirs.drop("ap").to_dict() == {
        "ms_hvp_5": 18.03,
        "ih_pi_5": 22.22,
        "ih_dr_3": 20.51,
        "ih_dr_5": 19.99,
    }
    assert np.isnan(theirs["ap"])
    assert frame.loc[frame["model"] == "gemma-3-270m", "published_pct"].isna().all()


def test_leads_are_counted(shown, made):
    mean = 100 * BASE.mean()
    assert comparison_sentence(shown.results.one("tally_ih")) == (
        "MS-HVP has the lower error in 6 of 6 comparisons with integrated Hessians; their error "
        f"minus its own is {0.3 * mean:.2f} to {0.4 * mean:.2f} points."
    )
    trailing = sweep("m", shares=SHARES | {"ih_dr_5": 0.02})
    text = comparison_sentence(made(trailing).results.one("tally_ih"))
    assert "in 2 of 3 comparisons" in text
    assert f"is {-0.08 * mean:.2f} to" in text
    alone = sweep("m", shares={name: SHARES[name] for name in ("ap", "ms_hvp_5")})
    assert comparison_sentence(made(alone).results.one("tally_ih")).startswith("No ")


def test_the_fragment_compiles_and_shows_both(shown, provenance, compiles):
    text = TABLE.tex(shown, provenance)
    assert "IH-DR (n=3)" in text
    assert r"$\pm$1.83" in text
    assert text.count(r"\textbf") == 2
    assert "Gemma-3-270M stands in for the paper's Pythia-410M" in text
    assert "Few prompts" not in text
    compiles(text)


@pytest.mark.parametrize("name", ["ap", "ms_hvp_5"])
def test_what_the_others_are_set_against_is_needed(made, name):
    rest = {key: share for key, share in SHARES.items() if key != name}
    with pytest.raises(
        ReportError, match=f"needs the errors of '{name}'; add it to table9_estimators"
    ):
        made(sweep("m", shares=rest))


def test_both_files_are_written(written, tmp_path):
    own = sweep("m", n=4).drop(columns=["model", "task", "corruption"])
    pairs = paired(own, ["ap", "ms_hvp_5"], n_resamples=50)
    setting = {"model": "m", "task": "ioi", "corruption": ""}
    found = marks(pairs.assign(**setting), ["ap", *IHS], "ms_hvp_5")
    frames = {"hessian_summary": summarize(own), "hessian_paired": pairs}
    frames["marks_table9"] = found
    frames["tally_ih"] = tally(found, IHS, "ms_hvp_5")
    for name, frame in frames.items():
        frame.to_parquet(tmp_path / name)
    inputs = {name: [tmp_path / name] for name in frames}
    frame, text = written("table9", inputs, ["m/ioi"])
    assert len(frame) == 5
    assert set(frame["verdict_vs_ms_hvp"].dropna()) == {"undecided"}
    assert "0.039" not in text  # the bootstrap's p of four prompts
    assert "Few prompts (as few as $n = 4$)" in text
