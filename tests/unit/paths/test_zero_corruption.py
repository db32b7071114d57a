"""Zero corruption (appendix E.3): a' = 0 everywhere, against plain passes with zeros put in."""

from dataclasses import replace

import pytest
import torch

from hvp_patching.baselines.gim import gim, gim_context
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import (
    activation_patching,
    gauss_newton_form,
    hessian_vector_products,
    lipschitz_estimates,
    path_jets,
    site_attribution,
)
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.precision import keep_precision
from hvp_patching.prompts.pair import TokenPair, check_ids
from hvp_patching.sites import get_site

SITES = ("attn_heads", "mlp_pre", "mlp_post", "mlp_out", "resid_post")
GRID = [
    (family, site)
    for i, family in enumerate(FAMILIES)
    for site in (SITES[i], SITES[(i + 2) % len(SITES)])
]


@pytest.fixture
def zero_pair(make_pair):
    """A prompt without a corrupted one."""
    pair = make_pair(n=11, targets=(17, 900))
    return replace(pair, corrupted_ids=pair.clean_ids, corruption="zero")


@pytest.fixture
def zero_path(plain_path, zero_pair):
    """The oracle of plain forward passes, with zeros as the other activation."""

    def build(model, site):
        path = plain_path(model, zero_pair, site)
        path.a_other = [torch.zeros_like(a) for a in path.a]
        return path

    return build


def chosen(model, site):
    """A few components of every layer."""
    indices = range(3) if site in ("attn_heads", "mlp_pre", "mlp_post") else (0,)
    return [(layer, index) for layer in range(model.cfg.n_layers) for index in indices]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_effects_are_those_of_zeros_put_in(family, site, tiny, zero_pair, zero_path):
    model = tiny(family)
    path, components = zero_path(model, site), chosen(model, site)
    unpatched = path.metric(path._logits(path.ids, []))[0]
    expected = torch.stack([path.replaced(*c) - unpatched for c in components])
    assert float(expected.abs().max()) > 1e-3
    for backend in ("taylor", "autograd"):
        effects = activation_patching(model, zero_pair, site, components, backend=backend)
        torch.testing.assert_close(effects, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("family", "site"), GRID)
def test_jets_are_differences_of_plain_passes(family, site, tiny, zero_pair, zero_path):
    model, nodes = tiny(family), (0.0, 0.5)
    path = zero_path(model, site)
    components = path.largest()[:2]
    expected = torch.stack([path.derivatives(*c, nodes)[:, :3] for c in components])
    assert bool((expected.abs().amax((0, 1)) > 1e-3).all())
    for backend in ("taylor", "autograd"):
        jets = path_jets(model, zero_pair, site, nodes, 2, backend, components).values
        torch.testing.assert_close(jets, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("family", "site"), GRID)
def test_vectors_and_reverse_passes_agree_with_the_jets(family, site, tiny, zero_pair):
    """Up to the path's end, where a zeroed residual stream meets the epsilon of the next norm."""
    model, nodes = tiny(family), (0.0, 0.5, 1.0)
    components = chosen(model, site)
    jets = path_jets(model, zero_pair, site, nodes, 2, "taylor", components)
    found = hessian_vector_products(model, zero_pair, site, nodes, components)
    assert found.products.shape[:3] == (len(components), 3, len(zero_pair.clean_ids))
    for order, values in enumerate((found.f, found.f1, found.f2)):
        size = values.abs().amax(0)
        assert float(size.min()) > 1e-6
        assert float(((values - jets.values[..., order]).abs() / size).max()) < 1e-8
    estimates = lipschitz_estimates(found)
    assert bool((estimates["lipschitz"] >= estimates["lipschitz_scalar"] * (1 - 1e-9)).all())
    every = path_jets(model, zero_pair, site, order=1)
    scores = site_attribution(model, zero_pair, site)
    size = float(scores.abs().max())
    torch.testing.assert_close(scores, every.at(0.0, 1), rtol=0, atol=1e-11 * size)
    ap, form = gauss_newton_form(model, zero_pair, site, components)
    torch.testing.assert_close(ap, jets.at(0.0, 1), rtol=1e-9, atol=1e-13)
    assert bool((form != 0).all())


@pytest.mark.parametrize("site", ["attn_heads", "mlp_out"])
def test_delta_is_minus_the_activation_at_every_position(site, tiny, zero_pair, plain_path):
    """Also at position 0, where two prompts of a pair never differ when it holds BOS."""
    model = tiny("tiny-gemma2")
    ids = (model.tokenizer.bos_token_id, *zero_pair.clean_ids)
    pair = replace(zero_pair, clean_ids=ids, corrupted_ids=ids)
    run = base_run(model, pair, get_site(site))
    assert pair.first_changed == 0
    assert run.prefix is None
    assert run.suffix.tolist() == [list(ids)]
    for delta, a in zip(run.delta, plain_path(model, pair, site).a, strict=True):
        assert float(delta[:, 0].abs().min()) > 0
        torch.testing.assert_close(delta, -a, rtol=1e-12, atol=1e-14)


def test_the_corrupted_ids_do_not_matter(tiny, zero_pair, make_pair):
    model, other = tiny("tiny-llama"), make_pair(changed=(6,), n=11).corrupted_ids
    one, two = (
        path_jets(model, replace(zero_pair, corrupted_ids=ids), order=2).values
        for ids in (zero_pair.clean_ids, other)
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-llama"])
def test_gim_is_its_gradient_times_minus_the_activation(family, tiny, zero_pair, zero_path):
    model = tiny(family)
    path = zero_path(model, "attn_heads")
    zeros = [torch.zeros_like(a, requires_grad=True) for a in path.a]
    hooks = [
        (path._name(layer), lambda activation, hook, zero=zero: activation + zero)
        for layer, zero in enumerate(zeros)
    ]
    with torch.enable_grad(), keep_precision(torch.float64), gim_context(model):
        logits = model.run_with_hooks(path.ids, fwd_hooks=hooks, return_type="logits")
        targets = torch.log_softmax(logits[0, -1].double(), -1)[path.targets]
        gradients = torch.autograd.grad(targets.logsumexp(0), zeros)
    products = [-(g * a).sum((0, 1, 3)) for g, a in zip(gradients, path.a, strict=True)]
    expected = torch.cat(products)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(gim(model, zero_pair), expected, rtol=1e-9, atol=1e-11)


def test_denoising_has_no_base(tiny, zero_pair):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        path_jets(tiny("tiny-gpt2"), zero_pair, direction="denoising")
    assert str(caught.value) == (
        "prompt 'seed-0': zero corruption has no corrupted run, so direction 'denoising' has no "
        "base to patch; use direction 'noising'"
    )


def test_identical_ids_need_zero_corruption():
    pair = TokenPair((5, 6), (5, 6), (8,), "p8", "zero")
    assert check_ids(pair) == pair
    with pytest.raises(ValueError, match="clean and corrupted are identical"):
        check_ids(replace(pair, corruption="resample"))
    with pytest.raises(ValueError, match="lengths differ"):
        check_ids(replace(pair, corrupted_ids=(5, 6, 7)))
