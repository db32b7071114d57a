"""Table 17: errors over features with the autoencoders' quality, beside the paper's."""

import pandas as pd
import pytest

from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table17 import TABLE
from hvp_patching.settings import Setting

HOOKS = {5: "blocks.5.hook_resid_pre", 9: "blocks.9.hook_resid_pre"}


def errors(name, methods=("ap", "hvp")):
    rows = [
        {
            "layer": layer,
            "hook": hook,
            "estimator": method,
            "n_prompts": 50,
            "n_components": 90,
            "n_records": 1500,
            "n_all_records": 4000,
            "mae": {"ap": 0.002, "hvp": 0.0005}[method],
            "reduction": {"ap": 0.0, "hvp": 0.75}[method],
            "reduction_low": {"ap": 0.0, "hvp": 0.7}[method],
            "reduction_high": {"ap": 0.0, "hvp": 0.8}[method],
            "correlation": 0.91,
            "rank_correlation": 0.82,
            "uncovered": 0.4,
        }
        for layer, hook in HOOKS.items()
        for method in methods
    ]
    return pd.DataFrame(rows).assign(**vars(Setting.parse(name)))


def quality(name, trained=True, hooks=HOOKS):
    rows = [
        {
            "layer": layer,
            "hook": hook,
            "n_features": 2304,
            "activation": "topk",
            "trained": trained,
            "n_tokens": 8000,
            "explained_variance": 0.7,
            "l0": 31.5,
            "dead": 0.1,
            "loss": 3.0,
            "loss_spliced": 3.6,
            "loss_zero": 9.0,
            "loss_recovered": 0.9,
        }
        for layer, hook in hooks.items()
    ]
    return pd.DataFrame(rows).assign(**vars(Setting.parse(name)))


@pytest.fixture
def made(show):
    def make(name, trained=True, **changed):
        frames = {"feature_errors": errors(name), "autoencoders": quality(name, trained)} | changed
        return show("table17", options={"features": {"threshold": 1e-4}}, **frames)

    return make


def test_one_row_an_autoencoder_with_both_methods_and_its_quality(made):
    frame = made("smollm2-135m/ioi").frame
    assert list(frame.columns) == TABLE.columns.split()
    assert frame["layer"].tolist() == [5, 9]
    assert frame["ap_mae"].tolist() == [0.002, 0.002]
    assert frame["hvp_mae"].tolist() == [0.0005, 0.0005]
    assert frame["reduction_pct"].tolist() == pytest.approx([75.0, 75.0])
    assert frame["autoencoder_explained_variance"].tolist() == [0.7, 0.7]


def test_the_papers_numbers_stand_by_depth(made, paper):
    published = paper(17).set_index("layer")
    frame = made("smollm2-135m/ioi").frame
    assert frame["published_ap_mae"].tolist() == published.loc[[5, 9], "ap_mae"].tolist()
    assert frame["published_hvp_mae"].notna().all()


def test_whose_the_autoencoders_are_is_said(made, provenance):
    own = TABLE.tex(made("smollm2-135m/ioi"), provenance)
    assert "are our own (2,304" in own.replace("{,}", ",")
    assert "the sizes do not compare" in own
    published = TABLE.tex(made("gpt2-small/ioi", trained=False), provenance)
    assert "are our own" not in published
    assert "the paper's value for the same layer" in published


def test_a_missing_method_or_autoencoder_is_refused(made):
    name = "smollm2-135m/ioi"
    with pytest.raises(ReportError, match="no 'hvp' of features"):
        made(name, feature_errors=errors(name, ("ap",)))
    with pytest.raises(ReportError, match=r"no autoencoder at blocks\.9\.hook_resid_pre was"):
        made(name, autoencoders=quality(name, hooks={5: HOOKS[5]}))


def test_it_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made("smollm2-135m/ioi"), provenance))
