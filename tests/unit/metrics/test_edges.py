"""Errors, seconds and effects of edges, on frames made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hvp_patching.frames import FrameError
from hvp_patching.metrics.edges import EdgesError, edge_costs, edge_effects, edge_errors

CLOCK = {"n_edges": 100, "place": "cpu (one), 1 threads", "captures": 2.0}
PROMPT = {"per": "prompt", "n_scored": 1, "n_units": 1, "seconds": 3.0}
EDGE = {"per": "edge", "n_scored": 2, "n_units": 100, "seconds": 1.0}


def sample() -> pd.DataFrame:
    """Two prompts, edges x (effects 4 and −2) and y (1 and 0), x in two strata."""
    effects = {("a", "input", "m0"): 4.0, ("a", "m0", "logits"): 1.0}
    effects |= {("b", "input", "m0"): -2.0, ("b", "m0", "logits"): 0.0}
    off = {"exact": 0.0, "eap": 1.0, "hvp_own": -0.5}
    rows = []
    for (prompt, writer, reader), effect in effects.items():
        strata = ["largest", "random"] if reader == "m0" else ["random"]
        for stratum in strata:
            for method, miss in off.items():
                clock = PROMPT if method == "eap" else EDGE
                row = {"prompt_id": prompt, "stratum": stratum, "writer": writer, "reader": reader}
                row |= {"method": method, "edge_score": effect + miss, "exact": effect}
                rows.append(row | clock | CLOCK)
    return pd.DataFrame(rows)


def test_errors_are_sums_over_sums_and_strata_are_their_own():
    table = edge_errors(sample(), n_resamples=500).set_index(["stratum", "method"])
    assert table["error_share"]["all", "eap"] == pytest.approx(4 / 7)
    assert table["error_share"]["largest", "eap"] == pytest.approx(2 / 6)
    assert table["error_share"]["random", "hvp_own"] == pytest.approx(2 / 7)
    assert table["error_share"]["all", "exact"] == 0
    assert table["n_records"]["all", "eap"] == 4  # an edge in two strata counts once
    assert table["n_records"]["largest", "eap"] == 2
    # without the edge that has no effect: 1/4, 1/1, 1/2
    assert table["median_relative_error"]["all", "eap"] == pytest.approx(0.5)
    assert table["sign_agreement"]["all", "eap"] == 1


def test_signs_are_those_of_edges_with_an_effect():
    frame = sample()
    frame.loc[frame["method"] == "eap", "edge_score"] *= -1
    table = edge_errors(frame, n_resamples=100).set_index(["stratum", "method"])
    assert table["sign_agreement"]["all", "eap"] == 0


def test_intervals_are_those_of_prompts_drawn_again():
    """Of two prompts the ratio is 2/5, 2/2 or 4/7."""
    row = edge_errors(sample(), n_resamples=2000).set_index(["stratum", "method"]).loc["all"]
    assert row["ci_low"]["eap"] == pytest.approx(2 / 5)
    assert row["ci_high"]["eap"] == pytest.approx(1.0)
    one = sample().query("prompt_id == 'a'")
    assert edge_errors(one, n_resamples=100)["ci_low"].isna().all()


def test_flags_are_second_order_terms_above_tau():
    """own − eap is −1.5 everywhere; eap is 5, 2, −1 and 1."""
    table = edge_errors(sample(), tau=0.5, n_resamples=100).set_index(["stratum", "method"])
    assert table["flagged_share"]["all", "hvp_own"] == pytest.approx(3 / 4)
    assert np.isnan(table["flagged_share"]["all", "eap"])
    loose = edge_errors(sample(), tau=1.6, n_resamples=100)
    assert loose.set_index(["stratum", "method"])["flagged_share"]["all", "hvp_own"] == 0


def test_seconds_of_an_edge_and_of_all():
    table = edge_errors(sample(), n_resamples=100).set_index(["stratum", "method"]).loc["all"]
    assert table.loc["eap", ["seconds_per_edge", "seconds_all"]].tolist() == [3.0, 3.0]
    assert table.loc["hvp_own", ["seconds_per_edge", "seconds_all"]].tolist() == [0.5, 50.0]
    frame = sample()
    frame.loc[frame["method"] == "hvp_own", "per"] = "flagged"
    again = edge_errors(frame, n_resamples=100).set_index(["stratum", "method"]).loc["all"]
    assert np.isnan(again["seconds_all"]["hvp_own"])


def test_methods_of_the_one_edge_alone_have_no_errors():
    own = sample().query("method == 'hvp_own' and reader == 'm0'").assign(method="ig_own_10")
    table = edge_errors(pd.concat([sample(), own]), n_resamples=100)
    assert "ig_own_10" not in set(table["method"])
    effects = edge_effects(pd.concat([sample(), own])).set_index("method")
    assert effects["value"]["ig_own_10"] == pytest.approx((3.5 - 2.5) / 2)
    assert effects["n_prompts"]["eap"] == 2
    assert effects.loc["exact", ["lowest", "highest"]].tolist() == [-2.0, 4.0]


def test_the_order_of_rows_changes_nothing():
    one, two = (
        edge_errors(frame, n_resamples=50).sort_values(["stratum", "method"], ignore_index=True)
        for frame in (sample(), sample().iloc[::-1])
    )
    pd.testing.assert_frame_equal(one, two)


def test_bad_samples_are_refused_in_one_line():
    with pytest.raises(EdgesError, match="no scores by 'eap'"):
        edge_errors(sample().query("method != 'eap'"))
    with pytest.raises(EdgesError, match="no scores by 'eap'"):
        edge_errors(sample().iloc[:0])
    with pytest.raises(EdgesError, match="lacks the edge input->m0"):
        edge_effects(sample().query("reader != 'm0'"))
    with pytest.raises(FrameError, match="lacks the columns exact"):
        edge_errors(sample().drop(columns="exact"))


def timing() -> pd.DataFrame:
    rows = []
    for number, prompt in enumerate("abcd"):
        about = {
            "prompt_id": prompt,
            "n_layers": 2,
            "n_edges": 100,
            "place": "cpu",
            "captures": 1.0,
        }
        whole = {"per": "prompt", "n_scored": 1, "n_units": 1}
        rows.append(about | whole | {"method": "eap", "seconds": 1.0, "flagged_share": np.nan})
        joint = {"method": "hvp_joint", "seconds": 2.0 + number, "flagged_share": 0.1 * number}
        rows.append(about | whole | joint)
        if number == 0:
            own = {"per": "edge", "n_scored": 10, "n_units": 100, "method": "hvp_own"}
            rows.append(about | own | {"seconds": 5.0, "flagged_share": 0.2})
    return pd.DataFrame(rows)


def test_costs_are_means_and_totals_with_captures():
    table = edge_costs(timing(), n_resamples=200).set_index("method")
    assert table["total_seconds"]["eap"] == pytest.approx(4 * (1 + 1))
    assert table["seconds_all"]["hvp_joint"] == pytest.approx(3.5)
    assert table["total_seconds"]["hvp_joint"] == pytest.approx(4 * 4.5)
    assert table["overhead"]["hvp_joint"] == pytest.approx(18 / 8)
    assert table["flagged_share"]["hvp_joint"] == pytest.approx(0.15)
    assert table["all_low"]["hvp_joint"] < 3.5 < table["all_high"]["hvp_joint"]
    assert table["seconds_all"]["hvp_own"] == pytest.approx(50)
    assert table["total_seconds"]["hvp_own"] == pytest.approx(4 * 51)
    assert table["projected"].tolist() == [False, False, True]
    assert table["n_timed"].tolist() == [4, 4, 1]
    assert np.isnan(table["all_low"]["hvp_own"])


def test_costs_without_eap_are_refused():
    with pytest.raises(EdgesError, match="EAP was not timed on every prompt"):
        edge_costs(timing().query("method != 'eap'"))
    with pytest.raises(EdgesError, match="EAP was not timed on every prompt"):
        edge_costs(timing().drop(index=0))
