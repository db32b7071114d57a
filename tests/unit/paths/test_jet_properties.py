"""What must hold for every patch path, whatever the prompt."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hvp_patching.estimators import IG, MS_HVP
from hvp_patching.paths import path_jets
from hvp_patching.paths.autograd import autograd_jets
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.patches import requested_patches
from hvp_patching.paths.taylor.passes import taylor_jets
from hvp_patching.sites import get_site

BACKENDS = {"taylor": taylor_jets, "autograd": autograd_jets}
SITES = ("attn_heads", "mlp_out", "resid_post")
quick = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 10_000)
sites = st.sampled_from(SITES)
families = st.sampled_from(["tiny-gpt2", "tiny-gemma2", "tiny-llama"])


def jets_along(run, delta, request, backend="taylor"):
    """Jets of all components of a run whose patch direction is replaced."""
    run = replace(run, delta=tuple(delta))
    patches = requested_patches(run, None)
    return BACKENDS[backend](run, patches, request, 2**30, lambda fraction: None)


def replacing(path, model, site):
    """The effect of every component, by plain forward passes with its activation replaced."""
    per_layer = model.cfg.n_heads if site == "attn_heads" else 1
    before = path.metric(path._logits(path.ids, []))[0]
    places = [(i, j) for i in range(model.cfg.n_layers) for j in range(per_layer)]
    return torch.stack([path.replaced(*place) - before for place in places])


def random_like(delta, seed):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(d.shape, generator=draw, dtype=d.dtype) * d.abs().max() for d in delta]


@quick
@given(families, sites, seeds, st.floats(-2, 2), st.sampled_from(list(BACKENDS)))
def test_slope_is_linear_in_the_direction(tiny, make_pair, family, site, seed, c, backend):
    run = base_run(tiny(family), make_pair(changed=(6, 8), n=10, seed=seed), get_site(site))
    other = random_like(run.delta, seed)
    mixed = [a + c * b for a, b in zip(run.delta, other, strict=True)]
    first, second, both = (
        jets_along(run, d, {0.0: 1}, backend)[:, 0, 1] for d in (run.delta, other, mixed)
    )
    scale = float(torch.cat([first, second]).abs().max())
    assert scale > 0
    torch.testing.assert_close(both, first + c * second, rtol=0, atol=1e-11 * scale)


@quick
@given(families, sites, seeds, st.floats(-3, 3), st.sampled_from(list(BACKENDS)))
def test_curvature_is_quadratic_in_the_direction(tiny, make_pair, family, site, seed, c, backend):
    run = base_run(tiny(family), make_pair(changed=(6, 8), n=10, seed=seed), get_site(site))
    scaled = [c * d for d in run.delta]
    whole, part = (jets_along(run, d, {0.0: 3}, backend)[:, 0] for d in (run.delta, scaled))
    powers = torch.tensor([1.0, c, c**2, c**3], dtype=torch.float64)
    scale = float(whole.abs().max())
    torch.testing.assert_close(part, whole * powers, rtol=1e-9, atol=1e-11 * scale)


@quick
@given(families, sites, seeds, st.floats(0, 1), st.sampled_from(list(BACKENDS)))
def test_jets_of_no_change_vanish(tiny, make_pair, family, site, seed, node, backend):
    run = base_run(tiny(family), make_pair(changed=(3,), n=6, seed=seed), get_site(site))
    still = [torch.zeros_like(d) for d in run.delta]
    jets = jets_along(run, still, {node: 3}, backend)[:, 0]
    patched = jets_along(run, run.delta, {0.0: 0}, backend)[0, 0, 0]
    torch.testing.assert_close(jets[:, 0], patched.expand(len(jets)), rtol=1e-13, atol=0)
    assert bool((jets[:, 1:] == 0).all())


@quick
@given(
    seeds,
    sites,
    st.lists(st.sampled_from([0.0, 0.125, 0.3, 0.5, 1.0]), min_size=2, max_size=5, unique=True),
    st.randoms(),
)
def test_node_order_does_not_matter(tiny, make_pair, seed, site, nodes, random):
    model, pair = tiny("tiny-llama"), make_pair(changed=(4,), n=8, seed=seed)
    shuffled = random.sample(nodes, len(nodes))
    one, other = (path_jets(model, pair, site, order, 2) for order in (nodes, shuffled))
    assert one.nodes == tuple(nodes)
    assert other.nodes == tuple(shuffled)
    for node in nodes:
        for order in range(3):
            torch.testing.assert_close(
                one.at(node, order), other.at(node, order), rtol=1e-10, atol=1e-13
            )


@quick
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6, unique=True),
    st.sampled_from(list(BACKENDS)),
)
def test_chosen_components_are_rows_of_the_full_result(tiny, make_pair, components, backend):
    model, pair = tiny("tiny-gpt2"), make_pair(changed=(2,), n=8)
    full = path_jets(model, pair, nodes=(0.0, 0.5), backend=backend)
    part = path_jets(model, pair, nodes=(0.0, 0.5), backend=backend, components=components)
    assert list(part.components.itertuples(index=False, name=None)) == components
    rows = [layer * 4 + index for layer, index in components]
    torch.testing.assert_close(part.values, full.values[rows], rtol=1e-10, atol=1e-13)


@settings(quick, max_examples=5)
@given(st.integers(2**15, 2**21), st.sampled_from(["tiny-gemma2", "tiny-pythia"]))
def test_the_memory_budget_changes_nothing(tiny, make_pair, memory, family):
    """However many rows share a pass, and whichever layers they belong to."""
    model, pair = tiny(family), make_pair(changed=(5,), n=12)
    whole = path_jets(model, pair, nodes=(0.0, 0.4), order=3)
    passes = []
    chunked = path_jets(
        model, pair, nodes=(0.0, 0.4), order=3, memory=memory, progress=passes.append
    )
    torch.testing.assert_close(chunked.values, whole.values, rtol=1e-10, atol=1e-12)
    assert len(passes) > 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_budget_of_one_byte_is_one_row_at_a_time(tiny, make_pair, backend):
    model, pair = tiny("tiny-llama"), make_pair(changed=(2,), n=6)
    passes = []
    one_by_one = path_jets(
        model, pair, nodes=(0.0, 0.5), backend=backend, memory=1, progress=passes.append
    )
    assert len(passes) == 24
    whole = path_jets(model, pair, nodes=(0.0, 0.5), backend=backend)
    torch.testing.assert_close(one_by_one.values, whole.values, rtol=1e-10, atol=1e-13)


@quick
@given(families, sites, seeds)
def test_the_path_ends_at_activation_patching(tiny, make_pair, plain_path, family, site, seed):
    model, pair = tiny(family), make_pair(changed=(6,), n=10, seed=seed)
    jets = path_jets(model, pair, site, (0.0, 1.0), 2)
    effect = replacing(plain_path(model, pair, site), model, site)
    torch.testing.assert_close(jets.at(1.0, 0) - jets.at(0.0, 0), effect, rtol=0, atol=1e-12)


@settings(quick, max_examples=4)
@example("tiny-llama", "resid_post", 472)  # a sharp path: 64 nodes are too few for it
@given(families, sites, seeds)
def test_path_methods_converge_to_activation_patching(
    tiny, make_pair, plain_path, family, site, seed
):
    model, pair = tiny(family), make_pair(changed=(6,), n=10, seed=seed)
    effect = replacing(plain_path(model, pair, site), model, site)
    size = float(effect.abs().max())
    for few, many in ((IG(8), IG(256)), (MS_HVP(8), MS_HVP(256))):
        coarse, fine = (
            (rule(path_jets(model, pair, site, rule.request())) - effect).abs().max() / size
            for rule in (few, many)
        )
        assert float(fine) < 2e-3
        assert float(fine) < max(float(coarse) / 8, 1e-9)
