"""`hvp-patching screen`: what the library screens, and its terms met before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hvp_patching as hp
from hvp_patching.cli import session
from hvp_patching.prompts.pairs_file import read_pairs

GIVEN = ("screen", "--model", "smollm2-135m", "--pairs", "pairs.csv", "--dtype", "float64")
TERMS = {"budget": 500, "top_k": 3, "alpha": 0.2, "seed": 4}
WORDS = ("--budget", "500", "--top", "3", "--alpha", "0.2", "--seed", "4", "--site", "mlp_post")


@pytest.fixture
def screened(call):
    """The library's own result for the same terms."""
    pairs = [row.pair for row in read_pairs("pairs.csv").rows]
    model = hp.load_model("smollm2-135m", "float64", "cpu")
    return hp.screen(model, pairs, site="mlp_post", **TERMS)


def test_it_is_the_library_s_screening(call, screened):
    result = call(*GIVEN, *WORDS, "--out", "run.json")
    assert result.exit_code == 0, result.output
    run, wanted = json.loads(Path("run.json").read_text()), screened.to_frame()
    found = pd.DataFrame(run["components"])
    for name in ("layer", "index", "how", "rank"):
        assert found[name].tolist() == wanted[name].tolist()
    for name in ("estimate", "low", "high", "score"):
        np.testing.assert_allclose(found[name].astype(float), wanted[name], rtol=1e-9)
    assert set(found["how"]) == {"exact", "estimated"}
    assert run["components"][0]["component"] == f"L{found['layer'][0]}N{found['index'][0]}"
    assert {name: run[name] for name in ("top_k", "alpha", "seed")} == {
        name: TERMS[name] for name in ("top_k", "alpha", "seed")
    }
    assert run["cost"]["passes"] == screened.cost.passes
    assert run["certificate"]["n_components"] == len(wanted)
    certain = screened.sentence().partition("Cost:")[0].strip()
    assert certain in " ".join(result.stdout.split())
    assert certain in run["sentence"]


@pytest.mark.parametrize("ending", ["csv", "html"])
def test_the_other_files_say_how_each_number_was_obtained(call, ending):
    assert call(*GIVEN, *WORDS, "--out", f"run.{ending}").exit_code == 0
    text = Path(f"run.{ending}").read_text()
    assert "exact" in text
    assert "estimated" in text
    assert "certificate" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--alpha", "0"), "alpha must lie between 0 and 1"),
        (("--alpha", "1"), "alpha must lie between 0 and 1"),
        (("--budget", "much"), "the budget is 'much'; give forward passes"),
        (("--budget", "0s"), "must be above 0"),
        (("--top", "0"), "--top"),
    ],
)
def test_wrong_terms_load_no_model(call, monkeypatch, words, said):
    def refuse(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(session, "load_located", refuse)
    result = call(*GIVEN, *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_budget_that_does_not_pay_the_scores(call):
    result = call(*GIVEN, "--budget", "3")
    assert result.exit_code == 2
    assert "budget" in result.stderr.splitlines()[-1]
