"""The table of sets of heads: blocks, cells, and names of predictors."""

import pandas as pd
import pytest

from hvp_patching.circuits.joint import PREDICTORS
from hvp_patching.reporting.tables.sets import TABLE, predictor_style
from hvp_patching.settings import Setting

SIZES = (2, 5, 10, 20, 40)


def errors(name, predictors=PREDICTORS, sizes=SIZES):
    rows = [
        {
            "metric": metric,
            "drawn": drawn,
            "size": size,
            "predictor": predictor,
            "n_prompts": 10,
            "n_sets": 100,
            "mean_effect": 0.125 * size,
            "relative_error": 0.123 * place,
            "relative_low": 0.1 * place,
            "relative_high": 1.6 * place,
            "median_relative_error": 0.2,
            "median_low": 0.1,
            "median_high": 0.3,
            "best": place == 1,
        }
        for metric in ("logprob", "logit_difference")
        for drawn in ("random", "top")
        for size in sizes
        for place, predictor in enumerate(predictors, 1)
    ]
    return pd.DataFrame(rows).assign(**vars(Setting.parse(name)))


@pytest.fixture
def shown(show):
    names = ("smollm2-135m/ioi", "gemma-3-270m/ioi")
    return show("sets", set_errors=pd.concat(map(errors, names), ignore_index=True))


def test_the_csv_has_every_error_in_percent(shown):
    assert list(shown.frame.columns) == TABLE.columns.split()
    assert len(shown.frame) == 2 * 2 * 2 * len(SIZES) * len(PREDICTORS)
    first = shown.frame.iloc[0]
    assert first["relative_error_pct"] == pytest.approx(12.3)
    assert first["median_relative_error_pct"] == pytest.approx(20)
    assert first["ci_high_pct"] == pytest.approx(160)


def test_a_block_has_the_effects_and_a_line_a_predictor(shown, provenance):
    text = TABLE.tex(shown, provenance)
    assert text.count(r"\textit{") == 2 * 2 * 2
    assert "SmolLM2-135M, IOI: logit difference, the heads of largest effect" in text
    assert r"$|\Delta_S|$ & 0.250 & 0.625 & 1.25 & 2.50 & 5.00" in text
    assert r"\textbf{12.3}~{\scriptsize [10.0, 160]}" in text
    assert text.count("MS-HVP (K=5) of the set") == 8
    assert text.count(r"\textbf{") == 8 * len(SIZES)


def test_the_page_says_the_same(shown, provenance):
    html = TABLE.html(shown, provenance)
    assert "Sum of exact + pairs" in html
    assert "<b>12.3</b>" in html


def test_a_size_that_a_setting_lacks_is_a_gap(show, provenance):
    both = [errors("smollm2-135m/ioi"), errors("gemma-3-270m/ioi", sizes=(2, 5))]
    text = TABLE.tex(show("sets", set_errors=pd.concat(both, ignore_index=True)), provenance)
    assert "0.625 & -- & -- & --" in text


def test_every_predictor_has_its_own_name_colour_and_marker():
    styles = [predictor_style(name) for name in PREDICTORS]
    for attribute in ("name", "colour", "marker"):
        assert len({getattr(style, attribute) for style in styles}) == len(styles)
    assert predictor_style("sum_ms_hvp_5").name == "Sum of MS-HVP (K=5)"
    assert predictor_style("joint_gl_4").colour == "#7733DD"
    with pytest.raises(
        ValueError, match="unknown predictor 'half_ap' of sets; choose one of: sum_e"
    ):
        predictor_style("half_ap")
    with pytest.raises(ValueError, match="unknown method 'eap'"):
        predictor_style("joint_eap")


def test_it_compiles(show, provenance, compiles):
    compiles(TABLE.tex(show("sets", set_errors=errors("smollm2-135m/ioi")), provenance))
