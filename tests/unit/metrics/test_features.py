"""Errors over features on frames made by hand."""

import pandas as pd
import pytest

from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.features import feature_errors

HOOK = "blocks.5.hook_resid_pre"
TRUTH = {("a", 1): 1.0, ("a", 2): -2.0, ("b", 1): 4.0, ("b", 7): 1e-5}
MISS = {"ap": (0.5, 1.0, 1.5, 9.0), "hvp": (0.25, -0.5, 0.0, 9.0)}


def frame(misses=MISS):
    return pd.DataFrame(
        [
            {
                "prompt_id": prompt,
                "layer": 5,
                "index": index,
                "estimator": name,
                "estimate": truth + miss,
                "truth": truth,
                "cost": 1,
                "hook": HOOK,
                "uncovered": {"a": 0.2, "b": 0.4}[prompt],
            }
            for name, errors in misses.items()
            for ((prompt, index), truth), miss in zip(TRUTH.items(), errors, strict=True)
        ]
    )


def test_means_are_over_the_records_above_the_threshold():
    found = feature_errors(frame(), n_resamples=50).set_index("estimator")
    assert found["mae"].to_dict() == pytest.approx({"ap": 1.0, "hvp": 0.25})
    assert found["reduction"]["hvp"] == pytest.approx(0.75)
    assert set(found["n_records"]) == {3}
    assert set(found["n_all_records"]) == {4}
    assert set(found["n_components"]) == {2}
    assert found["uncovered"].tolist() == pytest.approx([0.3, 0.3])
    # truths 1, -2, 4 and estimates 1.5, -1, 5.5 of AP: r = 19.5 / sqrt(18 * 21.5)
    assert found["correlation"]["ap"] == pytest.approx(19.5 / (18 * 21.5) ** 0.5)
    assert found["rank_correlation"]["ap"] == pytest.approx(1.0)


def test_thresholds_that_leave_nothing_and_frames_without_ap_are_refused():
    with pytest.raises(ScoresError, match="no feature has an effect above 5 nats, the largest is"):
        feature_errors(frame(), threshold=5.0)
    with pytest.raises(ScoresError, match="no estimates of 'ap'"):
        feature_errors(frame({"hvp": MISS["hvp"]}))
