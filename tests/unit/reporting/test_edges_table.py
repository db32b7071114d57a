"""The table of edges: errors by stratum, one edge, and the circuits that it decides."""

import pandas as pd
import pytest

from hvp_patching.reporting.tables.edges import ONE, STRATA, TABLE
from hvp_patching.settings import Setting

METHODS = ("exact", "eap", "eap_ig_inputs_5", "eap_ig_activations_2", "hvp_own", "hvp_reader")
METHODS += ("hvp_input", "hvp_joint", "ms_hvp_input_5", "ms_hvp_joint_5", "selective")


def errors(name):
    rows = [
        {
            "stratum": stratum,
            "method": method,
            "n_prompts": 8,
            "n_records": 640,
            "error_share": 0.0 if method == "exact" else 0.31 + number / 10,
            "ci_low": 0.2,
            "ci_high": 0.4,
            "median_relative_error": 0.004,
            "sign_agreement": 0.975,
            "flagged_share": 0.83 if "hvp_j" in method else float("nan"),
            "per": "prompt",
            "seconds_per_edge": 0.42,
            "seconds_all": 21345.0,
            "captures": 0.8,
            "n_edges": 123211,
            "place": "cpu (Some Long Processor Name @ 2.20GHz), 1 threads",
        }
        for number, stratum in enumerate(("all", *STRATA, "one edge"))
        for method in METHODS
    ]
    return pd.DataFrame(rows).assign(**vars(Setting.parse(name)))


def effects(name):
    rows = [
        {
            "method": method,
            "n_prompts": 8,
            "value": -10.25,
            "lowest": -12.5,
            "highest": 1.75,
            "sign_agreement": 0.25,
        }
        for method in (*ONE, "hvp_input")
    ]
    return pd.DataFrame(rows).assign(**vars(Setting.parse(name)))


def circuits(name):
    rows = [
        {"method": method, "selection": "signed", "n_prompts": 50, "cpr": cpr}
        | {"cpr_low": cpr - 0.1, "cpr_high": cpr + 0.1}
        for method, cpr in {
            "eap": 0.27,
            "eap_right": 1.56,
            "hvp_joint": 1.87,
            "hvp_joint_without": 0.28,
        }.items()
    ]
    return pd.DataFrame(rows).assign(**vars(Setting.parse(name)), exact=-9.5, eap_score=0.5)


@pytest.fixture
def made(show):
    def make(*names):
        frames = {"edge_errors": errors, "edge_effects": effects, "one_edge_summary": circuits}
        parts = {key: pd.concat(map(part, names)) for key, part in frames.items()}
        return show("edges", options={"tau": 0.5}, **parts)

    return make


def test_every_block_is_in_the_data(made):
    frame = made("smollm2-135m/ioi").frame
    assert list(frame.columns) == TABLE.columns.split()
    sizes = frame["block"].value_counts().to_dict()
    assert sizes == {"errors": len(METHODS) * 9, "one edge": 7, "circuits": 4}
    assert frame.loc[frame["block"] == "errors", "ci_low"].notna().all()


def test_a_line_has_the_methods_error_in_every_stratum(made, provenance):
    text = TABLE.tex(made("smollm2-135m/ioi"), provenance)
    (own,) = (line for line in text.splitlines() if line.startswith("HVP (own) & 0."))
    cells = [cell.strip() for cell in own.rstrip("\\ ").split("&")]
    assert cells[1:8] == ["0.41", "0.51", "0.61", "0.71", "0.81", "0.91", "1.01"]
    assert cells[8] == "0.004"
    (exact,) = (line for line in text.splitlines() if line.startswith("Exact patching & --"))
    assert exact.count("--") == 10


def test_one_edge_has_its_mean_its_range_and_how_often_its_sign_is_right(made, provenance):
    text = TABLE.tex(made("smollm2-135m/ioi"), provenance)
    assert "$-$10.25~(2/8)" in text
    assert "[$-$12.5, 1.8]" in text
    for cpr in ("0.27", "1.56", "1.87", "0.28"):
        assert cpr in text
    assert "nan" not in text


def test_norms_behind_heads_are_said_where_there_are_any(made, provenance):
    assert "norm" not in TABLE.tex(made("smollm2-135m/ioi"), provenance)
    assert "A norm follows" in TABLE.tex(made("gemma-3-270m/ioi"), provenance)


def test_it_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made("smollm2-135m/ioi", "gemma-3-270m/ioi"), provenance))


def test_it_is_a_page(made, provenance):
    assert "Exact patching" in TABLE.html(made("smollm2-135m/ioi"), provenance)
