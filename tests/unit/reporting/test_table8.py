"""Table 8: MS-HVP against IG, with honest verdicts."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.aggregates import by_setting
from hvp_patching.metrics.paired import marks, paired, tally
from hvp_patching.metrics.summary import summarize
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table8 import IG as REFERENCE
from hvp_patching.reporting.tables.table8 import MS_HVP, TABLE, verdict_sentence


def errors(ms_hvp, ig):
    rows = [
        {"prompt_id": f"p{i}", "estimator": name, "cost": 10, "top_k_relative_error": value}
        for name, values in (
            ("ap", [0.9] * len(ig)),
            ("ms_hvp_5", ms_hvp),
            ("ig_10", ig),
            ("gim", [0.5] * len(ig)),
            ("relp", [0.25] * len(ig)),
        )
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


IG = np.array([0.05, 0.04, 0.06, 0.03, 0.05, 0.04, 0.07, 0.05])
BETTER, WORSE = IG - 0.02, IG + 0.1
EQUAL = IG + 0.01 * np.array([1, -1] * 4)


def with_key(frame, model, task="ioi", corruption=""):
    return frame.assign(model=model, task=task, corruption=corruption)


@pytest.fixture
def made(show, each):
    def make(*parts, **options):
        table = pd.concat(parts)
        pairs = each(table, paired, [REFERENCE], n_resamples=400)
        found = marks(pairs, [MS_HVP], REFERENCE)
        counts = tally(found, [MS_HVP], REFERENCE)
        settings = list(by_setting(table))
        frames = {"marks_table8": found, "tally_ms_hvp": counts, "summary": each(table, summarize)}
        return show("table8", settings, {"baselines": ["gim", "relp"]} | options, **frames)

    return make


PARTS = (
    with_key(errors(BETTER, IG), "gpt2-small"),
    with_key(errors(WORSE, IG), "smollm2-135m"),
    with_key(errors(EQUAL, IG), "smollm2-135m", "factual"),
    with_key(errors(WORSE[:3], IG[:3]), "gemma-3-270m"),
)


@pytest.fixture
def frame(made):
    return made(*PARTS).frame


def test_rows_have_both_means_their_difference_and_a_verdict(frame):
    assert list(frame.columns) == TABLE.columns.split()
    assert frame["verdict"].tolist() == ["win", "loss", "tie", "undecided"]
    assert frame["ms_hvp_pct"][0] == pytest.approx(100 * BETTER.mean())
    assert frame["ig_pct"].tolist()[:3] == pytest.approx([100 * IG.mean()] * 3)
    # The same difference on every prompt leaves an interval without width, and the smallest p.
    assert frame.loc[0, ["difference_pp", "ci_low", "ci_high"]].tolist() == pytest.approx([-2] * 3)
    assert frame["p"][0] == pytest.approx(2 / 401)
    assert frame["ci_low"][2] < frame["difference_pp"][2] < frame["ci_high"][2]
    assert frame["p"][2] > 0.05
    # eight prompts support no p below 2 / 2^8, twice among three comparisons that can be decided
    smallest = 2 * 0.5**8
    assert frame["q"][:2].tolist() == pytest.approx([smallest * 3 / 2] * 2)
    assert frame["q"][2] == frame["p"][2]
    assert np.isnan(frame["q"][3])
    assert frame["decidable"].tolist() == [True, True, True, False]
    assert frame["survives"].tolist() == [True, True, False, False]
    assert frame["n_prompts"].tolist() == [8, 8, 8, 3]


def test_the_best_of_the_one_pass_baselines_stands_beside_them(made, provenance):
    shown = made(*PARTS)
    assert (shown.frame["best_one_pass"] == "relp").all()
    assert shown.frame["best_one_pass_pct"].tolist() == pytest.approx([25.0] * 4)
    assert TABLE.tex(shown, provenance).count("RelP & 25.00") == 4
    without = made(*PARTS, baselines=[])
    assert without.frame["best_one_pass_pct"].isna().all()
    assert "RelP" not in TABLE.tex(without, provenance)


def test_the_paper_stands_beside_its_own_setting(frame):
    assert frame["published_ms_hvp_pct"][0] == 2.97
    assert frame["published_abs_difference_pp"][0] == 0.34
    assert frame["published_verdict"][0] == "win"
    assert frame.loc[1:, "published_ms_hvp_pct"].isna().all()


def test_verdicts_are_counted_and_the_undecided_apart(made):
    assert verdict_sentence(made(*PARTS).results.one("tally_ms_hvp")) == (
        "MS-HVP against IG over 4 settings: 1 won, 1 tied, 1 lost, 1 undecided; of those won or "
        "lost 2 survive Benjamini-Hochberg."
    )


def test_the_fragment_shows_signs_and_verdicts(made, provenance, compiles):
    text = TABLE.tex(made(*PARTS, direction="denoising"), provenance)
    assert "$-$2.00" in text
    assert "$+$10.00" in text
    assert r"$\pm$0.34" in text
    assert "SmolLM2-135M and Gemma-3-270M stand in for the paper's Pythia-410M" in text
    assert "the corrupted run, into which" in text
    assert "Few prompts (as few as $n = 3$)" in text
    assert r"0.005\rlap{$^{\star\star}$} & win" in text
    assert r"0.005\rlap{$^{\circ\circ}$} & loss" in text
    assert "-- & undecided" in text
    assert "Undecided, without a mark: 1 of 4 comparisons." in text
    compiles(text)


@pytest.mark.parametrize("absent", ["ms_hvp_5", "ig_10"])
def test_a_setting_without_either_method_is_named(made, absent):
    table = errors(BETTER, IG).query("estimator != @absent")
    with pytest.raises(ReportError, match="m/ioi: no comparison of 'ms_hvp_5' with 'ig_10'"):
        made(with_key(errors(BETTER, IG), "gpt2-small"), with_key(table, "m"))


def test_both_files_are_written(written, tmp_path):
    pairs = paired(errors(WORSE, IG), [REFERENCE], n_resamples=400)
    found = marks(
        pairs.assign(model="smollm2-135m", task="ioi", corruption=""), [MS_HVP], REFERENCE
    )
    found.to_parquet(tmp_path / "a.parquet")
    tally(found, [MS_HVP], REFERENCE).to_parquet(tmp_path / "b.parquet")
    summarize(errors(WORSE, IG)).to_parquet(tmp_path / "c.parquet")
    names = {"marks_table8": "a", "tally_ms_hvp": "b", "summary": "c"}
    inputs = {name: [tmp_path / f"{file}.parquet"] for name, file in names.items()}
    frame, text = written("table8", inputs, ["smollm2-135m/ioi"])
    assert frame["verdict"].tolist() == ["loss"]
    assert "0 won, 0 tied, 1 lost" in text
