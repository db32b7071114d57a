"""From numbers to verdicts: every scope's words, and a changed number changes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hvp_patching.claims.verdicts import verdict

N = 12


def errors(ap: float, hvp: float, n: int = N) -> pd.DataFrame:
    """Top-5 errors around these means."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"prompt_id": f"p{i}", "estimator": name, "top_k_relative_error": mean * noise}
            for i in range(n)
            for name, mean, noise in (
                ("ap", ap, rng.uniform(0.9, 1.1)),
                ("hvp", hvp, rng.uniform(0.9, 1.1)),
            )
        ]
    )


def judged(claim, queries, of_frame, tmp_path, frames):
    evidence = of_frame(queries[claim.queries[0]], frames, tmp_path)
    return verdict(claim, queries, evidence)


OTHER = ("smollm2-135m/ioi", "gemma-3-270m/ioi")


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ((0.2, 0.1), (0.3, 0.1), "holds (2 of 2 settings)"),
        ((0.2, 0.1), (0.1, 0.3), "mixed (1 of 2 settings)"),
        ((0.1, 0.2), (0.1, 0.3), "fails"),
        ((0.2, 0.2), (0.1, 0.1), "undecided"),
    ],
)
def test_other_models(claims, queries, of_frame, tmp_path, first, second, word):
    frames = {OTHER[0]: errors(*first), OTHER[1]: errors(*second)}
    found = judged(claims["C99"], queries, of_frame, tmp_path, frames)
    assert (found.scope, found.word) == ("other models", word)


def test_the_number_that_speaks_least_for_the_claim_is_shown(claims, queries, of_frame, tmp_path):
    frames = {OTHER[0]: errors(0.2, 0.1), OTHER[1]: errors(0.1, 0.3)}
    found = judged(claims["C99"], queries, of_frame, tmp_path, frames)
    assert found.shown.number.setting.model == "gemma-3-270m"
    assert found.shown.number.estimate.value > 0


def test_few_prompts_decide_nothing(claims, queries, of_frame, tmp_path):
    frames = {OTHER[0]: errors(0.2, 0.1, n=4)}
    found = judged(claims["C99"], queries, of_frame, tmp_path, frames)
    assert found.word == "undecided"
    assert "too few prompts to decide (n = 4)" in found.reason


def own(claims, queries, of_frame, tmp_path, ap: float, hvp: float):
    """C107: 0.62 percent by HVP on Gemma-2-2B Greater-Than, on that model."""
    claim = claims["C107"]
    direction, number = queries[claim.queries[0]], queries[claim.number]
    frames = {"gemma-2-2b/greater_than": errors(ap, hvp)}
    evidence = of_frame(direction, frames, tmp_path)
    evidence._sources[number.name] = evidence._sources[direction.name]
    return verdict(claim, queries, evidence)


@pytest.mark.parametrize(
    ("ap", "hvp", "word"),
    [
        (0.0741, 0.0062, "reproduced"),
        (0.0741, 0.02, "direction reproduced"),
        (0.01, 0.02, "contradicted"),
        (0.02, 0.02, "undecided"),
    ],
)
def test_the_papers_own_model(claims, queries, of_frame, tmp_path, ap, hvp, word):
    found = own(claims, queries, of_frame, tmp_path, ap, hvp)
    assert (found.scope, found.word) == ("paper model", word)


def test_a_claim_of_one_model_is_an_analogue_on_another(claims, queries, of_frame, tmp_path):
    frames = {"gemma-3-270m/greater_than": errors(0.2, 0.1)}
    found = judged(claims["C107"], queries, of_frame, tmp_path, frames)
    assert found.scope == "other models"
    assert found.reason.startswith("analogue: On Greater-Than with a Gemma model")


def test_the_papers_own_numbers(claims, queries, evidence):
    claim = claims["C299"]
    assert verdict(claim, queries, evidence).word == "follows"
    assert verdict(replace(claim, value=19.0), queries, evidence).word == "contradicts"
    assert verdict(claims["C25"], queries, evidence).word == "contradicts"
    assert verdict(replace(claims["C25"], value=6.0), queries, evidence).word == "follows"
    tension = verdict(claims["C120"], queries, evidence)
    assert tension.word == "undecided"
    assert "neither shown nor excluded" in tension.reason


def test_a_definition(claims, queries, evidence):
    claim = claims["C03"]
    assert verdict(claim, queries, evidence).word == "computed: agrees"
    assert verdict(replace(claim, value=117.0), queries, evidence).word == "computed: differs"


def test_what_waits_names_its_artefact(claims, queries, evidence):
    found = verdict(claims["C90"], queries, evidence)
    assert (found.scope, found.word) == ("not run", "not run")
    assert "scale" in found.reason


def test_a_model_without_a_result_has_no_part(claims, queries, of_frame, tmp_path):
    """A model that does not do the task has no circuits: an empty table."""
    rows = pd.DataFrame({"first": ["eap_ig_inputs_5"], "second": "eap", "selection": "signed"})
    rows = rows.assign(area="cmd", difference=0.3, ci_low=0.2, ci_high=0.4, n_prompts=50)
    frames = {"a/mcqa": rows[:0], "b/mcqa": rows}
    assert judged(claims["C301"], queries, of_frame, tmp_path, frames).word.startswith("holds (1")
    nobody = judged(claims["C301"], queries, of_frame, tmp_path, {"a/mcqa": rows[:0]})
    assert (nobody.scope, nobody.word) == ("not run", "not run")


def test_a_profile_without_the_setting_runs_nothing(claims, queries, of_frame, tmp_path):
    found = judged(claims["C107"], queries, of_frame, tmp_path, {})
    assert found.word == "not run"
    assert "this profile has no setting" in found.reason


@pytest.mark.parametrize("name", ["C61", "C126", "C353", "C214", "C372", "C79"])
def test_the_studys_own_readings_agree(claims, queries, evidence, name):
    words = {"C61": "undecided", "C353": "contradicts", "C372": "computed: differs"}
    expected = words.get(name, "follows" if name == "C126" else "computed: agrees")
    assert verdict(claims[name], queries, evidence).word == expected
