"""AP + ½ H·1 against a dense Hessian in coefficient space, by plain forward passes alone."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import hvp_patching as hp
from hvp_patching.baselines import BASELINES, COSTS, joint_expansion, second_order_share
from hvp_patching.models.tiny import FAMILIES

from .plain import SITES, Plain

CASES = [
    *zip(FAMILIES, SITES, strict=True),
    ("tiny-gemma2", "attn_heads"),
    ("tiny-qwen2", "mlp_out"),
]
STEP = 2e-3


class Coefficients:
    """F(c): every component led from what it is in this run the fraction c_i of the way to a'."""

    def __init__(self, plain, zero=False):
        self.plain = plain
        self.goal = [torch.zeros_like(b) if zero else b for b in plain.b]
        axis = plain.axis
        self.sizes = [1 if axis is None else b.shape[axis] for b in plain.b]

    def value(self, rows):
        """F of every row of c, [n_rows, n_components] -> [n_rows]."""
        parts = rows.split(self.sizes, dim=1)
        hooks = [
            (name, self._towards(goal, part))
            for name, goal, part in zip(self.plain.names, self.goal, parts, strict=True)
        ]
        return self.plain.m(hooks, rows=len(rows))

    def _towards(self, goal, part):
        axis = self.plain.axis
        shape = {None: (-1, 1, 1), -1: (part.shape[0], 1, part.shape[1])}
        c = part.view(shape.get(axis, (part.shape[0], 1, part.shape[1], 1)))
        return lambda z, hook: z + c * (goal - z)

    def gradient_and_hessian(self):
        """By central differences of order h⁴ along every coordinate and every pair."""
        n = sum(self.sizes)
        eye = torch.eye(n, dtype=torch.float64)
        i, j = torch.tril_indices(n, n, -1)
        gradient, diagonal = self._along(eye)
        both = self._along(eye[i] + eye[j])[1]
        hessian = torch.diag(diagonal)
        hessian[i, j] = hessian[j, i] = (both - diagonal[i] - diagonal[j]) / 2
        return gradient, hessian

    def _along(self, directions):
        """First and second derivative at 0 along each of [n, n_components]."""
        steps = torch.tensor([1, -1, 2, -2, 0], dtype=torch.float64) * STEP
        rows = (steps[:, None, None] * directions).flatten(0, 1)
        f = self.value(rows).view(len(steps), -1)
        first = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP)
        second = (16 * (f[0] + f[1]) - (f[2] + f[3]) - 30 * f[4]) / (12 * STEP**2)
        return first, second


@pytest.mark.parametrize(
    ("family", "site"),
    [case for case in CASES if case[1] in ("attn_heads", "mlp_out", "resid_post")],
)
def test_it_is_the_row_sum_of_the_dense_hessian(family, site, tiny, make_pair):
    model, pair = tiny(family), make_pair(n=8)
    gradient, hessian = Coefficients(Plain(model, pair, site)).gradient_and_hessian()
    size = float(hessian.abs().max())
    assert size > 1e-3
    assert float((hessian - torch.diag(hessian.diag())).abs().max()) > 1e-3  # interactions
    found = second_order_share(model, pair, site)
    torch.testing.assert_close(found, gradient + hessian.sum(1) / 2, rtol=1e-5, atol=1e-6 * size)
    # with a component's own curvature alone it would be another number
    assert float((found - gradient - hessian.diag() / 2).abs().max()) > 1e-3 * size
    own = hp.estimators.HVP()(hp.path_jets(model, pair, site))
    torch.testing.assert_close(own, gradient + hessian.diag() / 2, rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize(("family", "site"), CASES)
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_its_sum_is_the_expansion_along_all_components(family, site, direction, tiny, make_pair):
    """Also for neurons, whose Hessian is too large: f' + ½f'' along c = s·1."""
    model, pair = tiny(family), make_pair(n=8)
    f = Coefficients(Plain(model, pair, site, direction))
    steps = torch.tensor([1, -1, 2, -2, 3, -3, 0], dtype=torch.float64) * STEP
    v = f.value(steps[:, None] * torch.ones(1, sum(f.sizes), dtype=torch.float64))
    first = (45 * (v[0] - v[1]) - 9 * (v[2] - v[3]) + (v[4] - v[5])) / (60 * STEP)
    second = 270 * (v[0] + v[1]) - 27 * (v[2] + v[3]) + 2 * (v[4] + v[5]) - 490 * v[6]
    expected = first + second / (180 * STEP**2) / 2
    found = second_order_share(model, pair, site, direction).sum()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    joint = joint_expansion(model, pair, site, direction)
    assert joint.first + joint.second == pytest.approx(float(found), rel=1e-10)
    whole = f.value(torch.ones(1, sum(f.sizes), dtype=torch.float64)) - f.plain.m()
    assert joint.effect == pytest.approx(float(whole), rel=1e-8)
    assert joint.gap == pytest.approx(float(whole - found), rel=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gap_is_of_third_order(family, tiny, make_pair):
    model, pair = tiny(family), make_pair()
    scales = (0.02, 0.01, 0.005, 0.0025)
    ratios = [joint_expansion(model, pair, scale=s).gap / s**3 for s in scales]
    limit = 2 * ratios[-1] - ratios[-2]
    assert abs(limit) > 1e-3  # no higher order either
    off = [abs(ratio - limit) for ratio in ratios]
    assert off[-1] < 0.2 * abs(limit)
    assert all(after < 0.7 * before for before, after in pairwise(off))


def test_zero_corruption_moves_towards_nothing(tiny, make_pair):
    model, pair = tiny("tiny-llama"), replace(make_pair(n=8), corruption="zero")
    f = Coefficients(Plain(model, pair, "attn_heads"), zero=True)
    gradient, hessian = f.gradient_and_hessian()
    found = second_order_share(model, pair)
    size = float(hessian.abs().max())
    torch.testing.assert_close(found, gradient + hessian.sum(1) / 2, rtol=1e-5, atol=1e-6 * size)


def test_positions_stand_apart_and_add_up(tiny, make_pair):
    """Each in the company of all components at all positions, whichever are asked for."""
    model, pair = tiny("tiny-pythia"), make_pair(changed=(4, 6), n=9)
    for site in ("attn_heads", "mlp_post", "mlp_out"):
        each = second_order_share(model, pair, site, positions="each").view(-1, 9)
        torch.testing.assert_close(each.sum(1), second_order_share(model, pair, site))
        few = second_order_share(model, pair, site, positions=[8, 5]).view(-1, 2)
        assert torch.equal(few, each[:, [8, 5]])
        assert bool((each[:, :4] == 0).all())


def test_another_metric(tiny, make_pair):
    model, pair = tiny("tiny-gpt2"), replace(make_pair(), foil_ids=(23,))
    found = second_order_share(model, pair, metric="logit_difference")
    own = second_order_share(model, pair, metric=hp.Metric(lambda x: x[17] - x[23]))
    torch.testing.assert_close(found, own, rtol=1e-10, atol=1e-12)
    assert float((found - second_order_share(model, pair)).abs().max()) > 1e-3


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5, float("nan")])
def test_a_scale_that_leaves_the_path_is_refused(scale, tiny, make_pair):
    with pytest.raises(ValueError, match=r"the scale of a joint expansion lies in \(0, 1\], got"):
        joint_expansion(tiny("tiny-gpt2"), make_pair(), scale=scale)


def test_registered_with_the_cost_of_a_second_product(tiny, make_pair):
    model, pair = tiny("tiny-qwen2"), make_pair()
    assert BASELINES["second_order_share"] is second_order_share
    assert COSTS["second_order_share"](model) == 2
    precise, single = (
        second_order_share(tiny("tiny-llama", d), pair) for d in ("float64", "float32")
    )
    assert (single - precise).abs().max() < 1e-4 * precise.abs().max()
