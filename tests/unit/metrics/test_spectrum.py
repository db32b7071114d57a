"""Spectra over prompts, on frames made by hand."""

import pandas as pd
import pytest

from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.spectrum import spectrum_summary


def frame():
    rows = [
        {
            "prompt_id": prompt,
            "layer": layer,
            "rank": rank,
            "eigenvalue": scale * value,
            "mass": 0.3 * rank,
            "covered": share * rank,
            "q_error": 1 - share * rank,
            "n_rows": 64,
        }
        for prompt, scale, share in (("a", 1.0, 0.1), ("b", 5.0, 0.3))
        for layer in (2, 0)
        for rank, value in ((1, -4.0), (2, 1.0))
    ]
    return pd.DataFrame(rows)


def test_means_are_over_prompts_for_every_layer_and_rank():
    found = spectrum_summary(frame(), n_resamples=200)
    assert found[["layer", "rank"]].to_numpy().tolist() == [[0, 1], [0, 2], [2, 1], [2, 2]]
    assert found["decay"].tolist() == pytest.approx([1.0, 0.25] * 2)
    assert found["covered"].tolist() == pytest.approx([0.2, 0.4] * 2)
    assert found["q_error"].tolist() == pytest.approx([0.8, 0.6] * 2)
    assert found["mass"].tolist() == pytest.approx([0.3, 0.6] * 2)
    assert found.loc[1, ["covered_low", "covered_high"]].tolist() == pytest.approx([0.2, 0.6])
    assert set(found["n_prompts"]) == {2}


def test_a_prompt_with_other_layers_is_refused():
    with pytest.raises(ScoresError, match="layer 0, rank 1 has 1 of 2 prompts; compute all again"):
        spectrum_summary(frame().drop(2))
    with pytest.raises(ScoresError, match="the spectra have no rows"):
        spectrum_summary(frame().iloc[:0])
