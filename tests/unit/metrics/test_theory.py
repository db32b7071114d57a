"""The propositions as inequalities on paths of real networks.

Along one path the smallest valid L|delta|^3 is M = max |f'''(t)|. It is found on a grid, and what
lies between two nodes is bounded by the grid's second differences: a smooth function is within
h^2/8 max |f^(5)| of its chord. Twice that is added, because differences see f^(5) only on average.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from hvp_patching.metrics.theory import (
    higher_order_slack,
    hvp_residual,
    relative_error,
    relative_error_bounds,
    remainder,
    selective_error_bound,
    selective_estimate,
    selective_gap,
    uncorrected,
)
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import path_jets

SITES = ("attn_heads", "mlp_pre", "resid_post")
TAUS = (0.0, 0.02, 0.1, 0.5, 2.0, 100.0)
ROUNDING = 1 + 1e-9


@dataclass
class Paths:
    effect: np.ndarray
    ap: np.ndarray
    q: np.ndarray
    third: np.ndarray  # f''' on the grid, [n_components, n_nodes]

    @property
    def cubic_bound(self):
        return largest(self.third) / 6


def largest(third):
    """A bound of |f'''| over the whole path from its values on an even grid."""
    return np.abs(third).max(1) + 2 * np.abs(np.diff(third, 2, axis=1)).max(1) / 8


def measure(model, pair, site, n_nodes=33):
    sample = [(layer, i) for layer in range(model.cfg.n_layers) for i in (0, 9, 18, 27)]
    jets = path_jets(
        model,
        pair,
        site,
        nodes=np.linspace(0, 1, n_nodes).tolist(),
        order=3,
        components=sample if site == "mlp_pre" else None,
    )
    value = jets.values.numpy()
    assert np.isfinite(value).all()
    effect = value[:, -1, 0] - value[:, 0, 0]
    assert (effect != 0).all()
    return Paths(effect, value[:, 0, 1], value[:, 0, 2], value[:, :, 3])


@pytest.fixture(scope="module")
def paths(tiny, make_pair):
    """Paths of all heads and blocks and of some neurons, measured once a family and site."""
    pair = make_pair(changed=(6, 8), n=10)
    return functools.cache(lambda family, site: measure(tiny(family), pair, site))


every_path = pytest.mark.parametrize(
    ("family", "site"), [(family, site) for family in FAMILIES for site in SITES]
)


@every_path
def test_corollary_1_bounds_the_residual_of_hvp(paths, family, site):
    path = paths(family, site)
    residual = hvp_residual(path.effect, path.ap, path.q)
    assert (residual > 0).all()
    assert (residual <= path.cubic_bound * ROUNDING).all()


@every_path
def test_proposition_1_encloses_the_relative_error(paths, family, site):
    path = paths(family, site)
    low, high = relative_error_bounds(path.ap, path.q, path.cubic_bound)
    error = relative_error(path.effect, path.ap)
    assert np.isfinite(error).all()
    assert (low <= error * ROUNDING).all()
    assert (error <= high * ROUNDING).all()
    # the paper's own form, where it says something
    eta = higher_order_slack(path.q, path.cubic_bound)
    rho = np.abs(path.q) / 2 / np.abs(path.ap)
    np.testing.assert_allclose(high, rho * (1 + eta))
    np.testing.assert_allclose(low, np.where(eta < 1, rho * (1 - eta), 0))


@every_path
@pytest.mark.parametrize("tau", TAUS)
def test_proposition_2_bounds_the_selective_error(paths, family, site, tau):
    path = paths(family, site)
    missed = abs((path.effect - selective_estimate(path.ap, path.q, tau)).sum())
    assert 0 < missed <= selective_error_bound(path.ap, path.q, path.cubic_bound, tau) * ROUNDING


@every_path
@pytest.mark.parametrize("tau", TAUS)
def test_corollary_2_is_an_identity(paths, family, site, tau):
    path = paths(family, site)
    assert_gap(path.ap, path.q, tau)


def assert_gap(ap, q, tau):
    full = sum(a + b / 2 for a, b in zip(ap, q, strict=True))
    selective = sum(
        a if abs(b) / 2 <= tau * abs(a) else a + b / 2 for a, b in zip(ap, q, strict=True)
    )
    scale = np.abs(ap).sum() + np.abs(q).sum()
    gap = selective_gap(ap, q, tau)
    assert gap.signed == pytest.approx(full - selective, rel=0, abs=1e-12 * scale)
    assert selective_estimate(ap, q, tau).sum() == pytest.approx(selective, abs=1e-12 * scale)
    assert abs(gap.signed) <= gap.absolute * ROUNDING
    assert gap.absolute <= gap.bound * ROUNDING
    if gap.absolute > 0:
        assert gap.cancellation == pytest.approx(abs(gap.signed) / gap.absolute)


def test_both_cases_of_proposition_1_occur(paths):
    eta = [
        higher_order_slack(p.q, p.cubic_bound)
        for p in (paths(family, "attn_heads") for family in FAMILIES)
    ]
    small = np.concatenate(eta) < 1
    assert small.sum() > 10
    assert (~small).sum() > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_smaller_bounds_are_violated(paths, family):
    """The bounds are close: half the cubic bound is too little for paths of every family."""
    path = paths(family, "attn_heads")
    half = path.cubic_bound / 2
    error = relative_error(path.effect, path.ap)
    low, high = relative_error_bounds(path.ap, path.q, half)
    assert (hvp_residual(path.effect, path.ap, path.q) > half).any()
    assert ((error < low) | (error > high)).any()


def test_proposition_2_needs_both_terms(paths):
    """Without the remainders it fails where all is corrected, without the rest where nothing is."""
    path = paths("tiny-pythia", "attn_heads")
    corrected, not_corrected = (
        abs((path.effect - selective_estimate(path.ap, path.q, tau)).sum()) for tau in (0.0, 100.0)
    )
    assert corrected > selective_error_bound(path.ap, path.q, 0 * path.cubic_bound, 0.0)
    assert not_corrected > path.cubic_bound.sum()


@every_path
def test_a_coarser_grid_bounds_the_finer_one(paths, family, site):
    third = paths(family, site).third
    assert (np.abs(third).max(1) <= largest(third[:, ::2])).all()


def test_the_sharpest_paths_are_bounded_on_a_far_finer_grid(tiny, make_pair, paths):
    fine = measure(tiny("tiny-gemma2"), make_pair(changed=(6, 8), n=10), "resid_post", 129)
    coarse = paths("tiny-gemma2", "resid_post")
    assert (np.abs(fine.third).max(1) <= 6 * coarse.cubic_bound).all()
    # and the margin does not do the work
    assert (6 * coarse.cubic_bound <= 1.5 * np.abs(fine.third).max(1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_measured_remainders_do_for_their_bounds(paths, family):
    """Proposition 2 with the remainders themselves in place of their bounds."""
    path = paths(family, "attn_heads")
    rest = hvp_residual(path.effect, path.ap, path.q)
    too_little = 0
    for tau in TAUS:
        missed = abs((path.effect - selective_estimate(path.ap, path.q, tau)).sum())
        assert missed <= selective_error_bound(path.ap, path.q, rest, tau) * ROUNDING
        too_little += missed > selective_error_bound(path.ap, path.q, 0 * rest, tau)
    assert too_little > 0  # the remainders are needed on these paths


def test_bounds_are_reached_by_cubic_paths():
    # f = ap t + q t^2 / 2 + m t^3 / 6, so that f''' = m everywhere
    ap, q, m = np.array([2.0, 2.0, -1.0]), np.array([1.0, 1.0, 0.0]), np.array([0.6, -0.6, 0.9])
    effect = ap + q / 2 + m / 6
    low, high = relative_error_bounds(ap, q, np.abs(m) / 6)
    np.testing.assert_allclose(high, [0.3, 0.3, 0.15])
    np.testing.assert_allclose(low, [0.2, 0.2, 0.0])
    np.testing.assert_allclose(relative_error(effect, ap), [0.3, 0.2, 0.15])
    np.testing.assert_allclose(remainder(effect, ap, q), m / 6)
    np.testing.assert_allclose(hvp_residual(effect, ap, q), np.abs(m) / 6)
    np.testing.assert_allclose(higher_order_slack(q, np.abs(m) / 6), [0.2, 0.2, np.nan])


def test_selective_bound_is_reached_at_the_threshold():
    # rho = tau exactly, all curvature and remainders of one sign
    ap, q, rest = np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([0.1, 0.2])
    effect = ap + q / 2 + rest
    missed = abs((effect - selective_estimate(ap, q, 0.5)).sum())
    assert missed == pytest.approx(selective_error_bound(ap, q, rest, 0.5)) == 1.8
    gap = selective_gap(ap, q, 0.5)
    assert (gap.signed, gap.absolute, gap.bound, gap.cancellation) == (1.5, 1.5, 1.5, 1.0)


def test_opposite_curvatures_cancel():
    gap = selective_gap([1.0, 1.0, 1.0], [0.4, -0.4, 0.2], 0.3)
    assert gap.signed == pytest.approx(0.1)
    assert gap.cancellation == pytest.approx(0.1 / 0.5)
    assert np.isnan(selective_gap([1.0], [4.0], 0.3).cancellation)


def test_no_first_order_term_is_corrected_where_there_is_curvature():
    assert uncorrected([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], 10.0).tolist() == [False, True, True]
    assert selective_estimate([0.0, 0.0], [1.0, 0.0], 10.0).tolist() == [0.5, 0.0]
    assert np.isnan(relative_error_bounds([0.0], [1.0], [0.1])).all()
    assert np.isnan(relative_error([1.0], [0.0])).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selective_gap([1.0], [1.0, 2.0], 0.5), r"ap \(1,\), q \(2,\)"),
        (lambda: selective_gap([1.0], [1.0], -0.5), "at least 0, got -0.5"),
        (lambda: selective_estimate([1.0], [1.0], float("nan")), "at least 0, got nan"),
    ],
)
def test_refused_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
