"""H(t)δ against dense Hessians and differences of gradients of plain forward passes, in float64."""

import itertools
from dataclasses import replace

import pandas as pd
import pytest
import torch

from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import hessian_vector_products, lipschitz_estimates, path_jets
from hvp_patching.paths.precision import keep_precision
from hvp_patching.paths.vector_hvp import PROBE_COLUMNS, VectorProducts
from hvp_patching.prompts.pair import TokenPair

SITES = ("attn_heads", "mlp_pre", "resid_post")
NODES = (0.0, 0.5, 1.0)
STEPS = (0.008, 0.004, 0.002)


class PlainGradients:
    """The metric and its gradient in one component's activation from `start` on, whole prompts."""

    def __init__(self, path, site, layer, index, start):
        self.path, self.layer, self.start = path, layer, start
        self.axis = {"attn_heads": -2, "mlp_pre": -1, "resid_post": None}[site]
        self.index = index
        self.a, self.end = (self.own(x[layer][0]) for x in (path.a, path.a_other))

    def own(self, activation):
        """The component's part, [n_suffix, d]; the rest of the activation is left alone."""
        part = activation if self.axis is None else activation.select(self.axis, self.index)
        part = part[..., self.start :, :] if self.axis != -1 else part[..., self.start :]
        return part if self.axis != -1 else part[..., None]

    def metric(self, z):
        """m of every row of z [n_rows, n_suffix, d]."""

        def patch(activation, hook):
            patched = activation.expand(len(z), *activation.shape[1:]).clone()
            self.own(patched).copy_(z)
            return patched

        hooks = [(self.path._name(self.layer), patch)]
        ids = self.path.ids
        with keep_precision(torch.float64):
            logits = self.path.model.run_with_hooks(ids, fwd_hooks=hooks, return_type="logits")
        return self.path.metric(logits[:, -1])

    def gradient(self, nodes):
        """∇m along the path, [n_nodes, n_suffix, d]: one reverse pass for all rows."""
        t = torch.tensor(nodes, dtype=torch.float64).view(-1, 1, 1)
        z = (self.a + t * (self.end - self.a)).requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.metric(z).sum(), z)[0]

    def product(self, node):
        """H(t)δ = d/dt ∇m: central differences, extrapolated twice (error of order h⁶)."""
        gradients = self.gradient([node + sign * h for h in STEPS for sign in (1, -1)])
        column = [(gradients[2 * i] - gradients[2 * i + 1]) / (2 * h) for i, h in enumerate(STEPS)]
        first = [(4 * b - a) / 3 for a, b in itertools.pairwise(column)]
        return (16 * first[1] - first[0]) / 15

    def hessian(self, node):
        """The dense Hessian at one node, [n_suffix, d, n_suffix, d]."""
        z = self.a + node * (self.end - self.a)
        return torch.autograd.functional.hessian(lambda x: self.metric(x[None])[0], z)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_products_are_those_of_the_dense_hessian(family, site, tiny, make_pair, plain_path):
    model, pair, nodes = tiny(family), make_pair(changed=(4,), n=6), (0.0, 0.7)
    path = plain_path(model, pair, site)
    layer, index = path.largest()[1]
    found = hessian_vector_products(model, pair, site, nodes, [(layer, index)])
    plain = PlainGradients(path, site, layer, index, start=4)
    delta = plain.end - plain.a
    assert found.products.shape == (1, 2, *delta.shape)
    torch.testing.assert_close(found.delta_norm[0], delta.norm(), rtol=1e-13, atol=0)
    for i, node in enumerate(nodes):
        hessian = plain.hessian(node)
        n = delta.numel()
        torch.testing.assert_close(hessian.reshape(n, n), hessian.reshape(n, n).T)
        expected = torch.tensordot(hessian, delta, 2)
        size = float(expected.abs().max())
        assert size > 1e-5
        torch.testing.assert_close(found.products[0, i], expected, rtol=0, atol=1e-10 * size)
        curvature = (delta * expected).sum()
        torch.testing.assert_close(found.f2[0, i], curvature, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_products_are_differences_of_gradients(family, site, tiny, make_pair, plain_path):
    model, pair = tiny(family), make_pair(changed=(9, 11), n=13, targets=(17, 900))
    direction = "denoising" if site == "mlp_pre" or family == "tiny-llama" else "noising"
    path = plain_path(model, pair, site, direction)
    components = path.largest()
    found = hessian_vector_products(model, pair, site, NODES, components, direction)
    assert bool(found.products.isfinite().all())
    for i, (layer, index) in enumerate(components):
        plain = PlainGradients(path, site, layer, index, start=9)
        for j, node in enumerate(NODES):
            expected = plain.product(node)
            size = float(expected.abs().max())
            assert size > 1e-6
            torch.testing.assert_close(found.products[i, j], expected, rtol=0, atol=1e-7 * size)


@pytest.mark.parametrize("site", [*SITES, "mlp_post", "mlp_out"])
@pytest.mark.parametrize("family", FAMILIES)
def test_values_slopes_and_curvatures_are_those_of_the_jets(family, site, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=10)
    neurons = [(2, 5), (0, 0), (1, 63)] if site.startswith("mlp_p") else None
    found = hessian_vector_products(model, pair, site, NODES, neurons)
    jets = path_jets(model, pair, site, NODES, 2, "taylor", neurons)
    pd.testing.assert_frame_equal(found.components, jets.components)
    assert found.nodes == jets.nodes
    for order, values in enumerate((found.f, found.f1, found.f2)):
        size = float(values.abs().max())
        assert values.dtype == torch.float64
        assert size > 1e-4
        torch.testing.assert_close(values, jets.values[..., order], rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prefix_cache_changes_nothing(family, tiny, make_pair, monkeypatch):
    model, pair = tiny(family), make_pair(changed=(9,), n=13)  # tiny-gemma2's window is 8
    cached = hessian_vector_products(model, pair)
    monkeypatch.setattr(TokenPair, "first_changed", property(lambda self: 0))
    whole = hessian_vector_products(model, pair)
    assert cached.products.shape[2] == 4
    assert whole.products.shape[2] == 13
    assert float(cached.products.abs().max()) > 1e-4
    for name in ("f", "f1", "f2", "delta_norm"):
        torch.testing.assert_close(
            getattr(cached, name), getattr(whole, name), rtol=1e-9, atol=1e-12
        )
    torch.testing.assert_close(cached.products, whole.products[:, :, 9:], rtol=1e-9, atol=1e-12)


def test_a_budget_of_one_byte_is_one_row_at_a_time(tiny, make_pair):
    model, pair, passes = tiny("tiny-llama"), make_pair(changed=(2,), n=6), []
    components = [(2, 3), (0, 1), (2, 0)]
    whole = hessian_vector_products(model, pair, components=components)
    single = hessian_vector_products(
        model, pair, components=components, memory=1, progress=passes.append
    )
    assert len(passes) == 9
    assert sum(passes) == pytest.approx(1.0)
    assert list(single.components.itertuples(index=False, name=None)) == components
    torch.testing.assert_close(single.products, whole.products, rtol=1e-10, atol=1e-13)


def test_layers_before_the_site_see_one_row(tiny, make_pair):
    model, sizes = tiny("tiny-gpt2"), {}
    handles = [
        block.mlp.register_forward_hook(
            lambda module, inputs, output, layer=layer: sizes.setdefault(layer, set()).add(
                output.shape[0]
            )
        )
        for layer, block in enumerate(model.blocks)
    ]
    try:
        hessian_vector_products(model, make_pair(), components=[(1, 0), (1, 2)])
    finally:
        for handle in handles:
            handle.remove()
    # unpatched runs have one row everywhere; the proof that rows can be added has two, once a model
    assert sizes[0] == {1}
    assert sizes[1] - {2} == sizes[2] - {2} == {1, 6}


def test_float32_is_close_to_float64(tiny, make_pair):
    pair = make_pair(changed=(4, 6))
    exact, found = (
        hessian_vector_products(tiny("tiny-qwen2", d), pair) for d in ("float64", "float32")
    )
    size = float(exact.products.abs().max())
    assert found.products.dtype == torch.float64
    assert float((found.products - exact.products).abs().max()) < 2e-5 * size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": (0.0, 1.5)}, "node 1.5 lies outside [0, 1]"),
        ({"nodes": ()}, "no nodes requested; give at least one point in [0, 1]"),
        ({"components": [(9, 0)]}, "layer 9 requested, but the model has 3 layers"),
        (
            {"direction": "up"},
            "unknown direction 'up'; choose one of: noising, denoising",
        ),
    ],
)
def test_bad_requests_end_in_one_line(options, message, tiny, make_pair):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        hessian_vector_products(tiny("tiny-llama"), make_pair(), **options)
    assert str(caught.value) == message


# --- Lipschitz estimates --------------------------------------------------------------------


def cubic_products(nodes):
    """Two paths of m(x) = Σ c x³ (H = diag(6 c x)) and one that does not move."""
    c, a = torch.tensor([0.3, -0.2, 0.5]), torch.tensor([1.0, -1.0, 2.0])
    delta = torch.tensor([[0.5, 1.0, -2.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
    c, a, delta = (x.double() for x in (c, a, delta))
    x = a + torch.tensor(nodes, dtype=torch.float64)[:, None] * delta[:, None]  # [3, n_nodes, 3]
    d = delta[:, None]
    products = 6 * c * x * d
    found = VectorProducts(
        (c * x**3).sum(-1),
        (3 * c * x**2 * d).sum(-1),
        (products * d).sum(-1),
        products[:, :, None],
        delta.norm(dim=1),
        nodes,
        pd.DataFrame({"layer": [0, 0, 4], "index": [0, 2, 1]}),
    )
    return found, c, a, delta


@pytest.mark.parametrize("nodes", [(0.0, 1.0), (1.0, 0.5, 0.0), (0.0, 0.3, 0.4, 1.0)])
def test_estimates_of_a_cubic_are_exact(nodes):
    found, c, a, delta = cubic_products(nodes)
    table = lipschitz_estimates(found)
    assert tuple(table.columns) == PROBE_COLUMNS
    assert table[["layer", "index"]].to_numpy().tolist() == [[0, 0], [0, 2], [4, 1]]
    moving, norm = table.iloc[:2], delta[:2].norm(dim=1)
    expected = {
        "delta_norm": norm,
        "f0": (c * a**3).sum().expand(2),
        "effect": (c * ((a + delta) ** 3 - a**3)).sum(1)[:2],
        "ap": (3 * c * a**2 * delta).sum(1)[:2],
        "q": (6 * c * a * delta**2).sum(1)[:2],
        "lipschitz": (6 * c * delta**2).norm(dim=1)[:2] / norm**2,
        "lipschitz_scalar": (6 * c * delta**3).sum(1)[:2].abs() / norm**3,
    }
    for name, values in expected.items():
        assert moving[name].to_numpy() == pytest.approx(values.numpy(), rel=1e-12), name
    assert table.loc[2, ["lipschitz", "lipschitz_scalar"]].isna().all()
    assert table.loc[2, ["delta_norm", "effect", "ap", "q"]].eq(0).all()


def test_the_largest_change_counts():
    """One bent path: the steepest pair of nodes, not the first and not the mean."""
    found, *_ = cubic_products((0.0, 0.5, 1.0))
    bent = found.products.clone()
    bent[1, 1, 0, 1] += 5.0
    table = lipschitz_estimates(replace(found, products=bent))
    moves = [abs(bent[1, i, 0, 1] - bent[1, j, 0, 1]) / h for i, j, h in PAIRS]
    assert float(max(moves)) > 2 * float(min(moves))
    assert table.loc[1, "lipschitz"] == pytest.approx(float(max(moves)) / 3.0**2, rel=1e-12)


PAIRS = [(0, 1, 0.5), (0, 2, 1.0), (1, 2, 0.5)]


@pytest.mark.parametrize(
    ("family", "site"),
    [
        ("tiny-gpt2", "attn_heads"),
        ("tiny-pythia", "mlp_pre"),
        ("tiny-gemma2", "resid_post"),
        ("tiny-qwen2", "attn_heads"),
    ],
)
def test_scalar_estimates_and_coarser_ones_are_no_larger(family, site, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4,), n=9)
    components = [(0, 0), (1, 0), (2, 0)]
    coarse, fine = (
        lipschitz_estimates(hessian_vector_products(model, pair, site, nodes, components))
        for nodes in (NODES, (0.0, 0.25, 0.5, 0.75, 1.0))
    )
    assert bool((coarse["lipschitz_scalar"] > 0).all())
    assert bool((coarse["lipschitz_scalar"] <= coarse["lipschitz"] * (1 + 1e-9)).all())
    assert bool((coarse["lipschitz"] <= fine["lipschitz"] * (1 + 1e-9)).all())
    assert bool((coarse["lipschitz"] < fine["lipschitz"] * (1 - 1e-3)).any())


@pytest.mark.parametrize("nodes", [(0.0,), (0.0, 0.5), (0.5, 1.0)])
def test_both_ends_are_needed(nodes):
    found, *_ = cubic_products(nodes)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        lipschitz_estimates(found)
    have = ", ".join(f"{t:g}" for t in nodes)
    assert str(caught.value) == (
        f"Lipschitz estimates need the path's ends among the nodes, which are {have}; "
        "compute the products at nodes 0 and 1 at least"
    )
