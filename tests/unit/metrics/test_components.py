"""Means of components over prompts, with their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from hvp_patching.metrics import components
from hvp_patching.metrics.components import mean_intervals
from hvp_patching.metrics.resampling import bootstrap_interval


def test_two_prompts_have_their_two_values_as_ends():
    """A quarter of the resamples hold one prompt twice: more than either tail."""
    mean, low, high = mean_intervals(np.array([[1.0, 3.0], [5.0, 2.0]]))
    assert mean.tolist() == [2.0, 3.5]
    assert (low.tolist(), high.tolist()) == ([1.0, 2.0], [3.0, 5.0])


def test_they_are_those_of_the_tables_up_to_the_draw():
    values = np.random.default_rng(3).normal(size=(20, 40))
    _, low, high = mean_intervals(values, n_resamples=4000)
    wanted = [bootstrap_interval(row, n_resamples=4000) for row in values]
    np.testing.assert_allclose(np.stack([low, high], 1), wanted, atol=0.03)
    assert np.abs(high - low).min() > 0.2


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says():
    values = np.random.default_rng(5).normal(loc=1.0, size=(2000, 30))
    _, low, high = mean_intervals(values)
    covered = ((low <= 1.0) & (high >= 1.0)).mean()
    assert 0.91 < covered < 0.96  # percentile intervals of 30 prompts are a little narrow


def test_many_components_are_taken_in_pieces(monkeypatch):
    values = np.random.default_rng(7).normal(size=(25, 6))
    whole = mean_intervals(values)
    monkeypatch.setattr(components, "AT_ONCE", 4)
    for one, other in zip(whole, mean_intervals(values), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_one_prompt_has_no_interval_and_none_is_refused():
    mean, low, high = mean_intervals(np.array([[2.0], [3.0]]))
    assert mean.tolist() == [2.0, 3.0]
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    with pytest.raises(ValueError, match=r"got shape \(3, 0\)"):
        mean_intervals(np.empty((3, 0)))
