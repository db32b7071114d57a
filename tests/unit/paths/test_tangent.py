"""Order 2 at t = 0 from first-order tangents: against Taylor mode, autograd and plain passes."""

import logging

import pytest
import torch

from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import Patch, UnsupportedOperation, logit_difference, path_jets
from hvp_patching.paths import tangent as tangent_module
from hvp_patching.paths.taylor import curvature
from hvp_patching.paths.taylor.functions import _compose, silu_derivatives
from hvp_patching.paths.taylor.tensor import RULES
from hvp_patching.paths.taylor.watch import WATCHED
from hvp_patching.prompts.pair import ZERO_CORRUPTION, TokenPair

SITES = ("attn_heads", "mlp_pre", "mlp_post", "mlp_out", "resid_post")
CASES = {
    "from the first token": ({"changed": (0,)}, "noising"),
    "several, target set": ({"changed": (4, 6, 9), "targets": (17, 18, 900)}, "denoising"),
    "late": ({"changed": (11,), "n": 13, "seed": 3}, "noising"),
}
# float32: what the reverse pass leaves, as in the autograd backend (see test_backends.py)
SINGLE = {name: 2e-5 if name in ("tiny-gpt2", "tiny-pythia") else 1e-5 for name in FAMILIES}


def chosen(site, n_layers):
    """All components; every ninth neuron."""
    if site not in ("mlp_pre", "mlp_post"):
        return None
    return [(layer, index) for layer in range(n_layers) for index in range(0, 64, 9)]


def error(values, reference):
    """Largest difference per order, relative to the largest value over components."""
    assert bool(values.isfinite().all())
    sizes = reference.abs().amax((0, 1))
    assert bool((sizes > 1e-4).all()), "nothing to compare"
    return (values - reference).abs().amax((0, 1)) / sizes


def by(backend, model, pair, site="attn_heads", **options):
    return path_jets(model, pair, site, backend=backend, **options).values


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_tangents_agree_with_taylor_mode_and_autograd(family, site, tiny, make_pair):
    model, single = tiny(family), tiny(family, "float32")
    options = {"components": chosen(site, model.cfg.n_layers)}
    for case, (how, direction) in CASES.items():
        pair = make_pair(**how)
        found = by("tangent", model, pair, site, direction=direction, **options)
        assert found.shape[1:] == (1, 3)
        for other in ("taylor", "autograd"):
            reference = by(other, model, pair, site, direction=direction, **options)
            assert float(error(found, reference).max()) < 1e-10, (case, other)
        in_single, taylor = (
            by(backend, single, pair, site, direction=direction, **options)
            for backend in ("tangent", "taylor")
        )
        assert float(error(in_single, taylor).max()) < SINGLE[family], case


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_tangents_agree_with_finite_differences(family, site, tiny, make_pair, plain_path):
    model, (how, direction) = tiny(family), CASES["several, target set"]
    pair = make_pair(**how)
    oracle = plain_path(model, pair, site, direction)
    components = oracle.largest()
    expected = torch.stack([oracle.derivatives(*c, (0.0,)) for c in components])[..., :3]
    found = by("tangent", model, pair, site, components=components, direction=direction)
    assert bool((expected.abs().amax((0, 1)) > 1e-3).all()), "nothing to compare"
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


METRICS = {
    "logit difference": logit_difference(900),
    "own": lambda logits: torch.tanh(logits[17] / 5) * logits.logsumexp(-1),
}


@pytest.mark.parametrize("metric", METRICS)
def test_the_metric_bends_too(metric, tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair()
    tangent, taylor = (
        by(backend, model, pair, metric=METRICS[metric]) for backend in ("tangent", "taylor")
    )
    assert float(error(tangent, taylor).max()) < 1e-10


@pytest.mark.parametrize("site", SITES)
def test_positions_apart_zero_corruption_and_little_memory(site, tiny, make_pair):
    model, pair = tiny("tiny-gemma2"), make_pair(changed=(9,))
    zero = TokenPair(pair.clean_ids, pair.clean_ids, (17,), "zero", ZERO_CORRUPTION)
    few = chosen(site, 3)
    for options in ({"positions": "each"}, {"memory": 1}, {"memory": 2**16}):
        for tokens in (pair, zero):
            tangent, taylor = (
                by(backend, model, tokens, site, components=few, **options)
                for backend in ("tangent", "taylor")
            )
            assert float(error(tangent, taylor).max()) < 1e-10, options


def test_patches_at_hooks_beside_each_other(tiny, make_pair):
    model, pair = tiny("tiny-gpt2"), make_pair()
    draw = torch.Generator().manual_seed(0)
    heads = dict.fromkeys(("attn.hook_v", "attn.hook_q", "attn.hook_k"), (14, 4, 8))
    shapes = {**heads, "hook_mlp_out": (14, 32)}
    patches = [
        Patch(f"blocks.{layer}.{hook}", layer, torch.randn(shape, generator=draw).double())
        for layer in (2, 0)
        for hook, shape in shapes.items()
    ]
    tangent, taylor = (
        path_jets(model, pair, patches=patches, backend=backend).values
        for backend in ("tangent", "taylor")
    )
    assert float(error(tangent, taylor).max()) < 1e-10
    assert bool((tangent[:, 0, 2].abs() > 1e-6).all())


@pytest.mark.parametrize("order", [0, 1])
def test_lower_orders_are_the_beginning(order, tiny, make_pair):
    model, pair = tiny("tiny-qwen2"), make_pair()
    full = by("tangent", model, pair)
    assert torch.equal(by("tangent", model, pair, order=order), full[..., : order + 1])


# --- what proves itself -----------------------------------------------------------------------


CAUGHT = r"by its tangents and .* by a reverse pass$"


def test_a_wrong_adjoint_is_caught(tiny, make_pair, monkeypatch, caplog):
    """SiLU whose value is right, and whose derivative in reverse mode is not."""
    model, pair = tiny("tiny-llama"), make_pair()
    expected = by("taylor", model, pair)
    monkeypatch.setitem(
        WATCHED,
        "silu",
        lambda tape, func, x, **_: tape.tap("function", func(x) + 1e-3 * (x - x.detach())),
    )
    with pytest.raises(UnsupportedOperation, match=CAUGHT):
        by("tangent", model, pair)
    with caplog.at_level(logging.WARNING):
        auto = by("auto", model, pair)
    assert not caplog.records
    assert torch.equal(auto, expected)


def test_a_wrong_tangent_is_caught(tiny, make_pair, monkeypatch):
    """The same of the rule of Taylor mode."""

    def derivatives(c, order):
        return [d * (1 + 1e-3 * (k > 0)) for k, d in enumerate(silu_derivatives(c, order))]

    monkeypatch.setitem(RULES, "silu", lambda x, inplace=False: _compose(x, derivatives))
    with pytest.raises(UnsupportedOperation, match=CAUGHT):
        by("tangent", tiny("tiny-llama"), make_pair())


def test_a_base_run_with_other_operations_is_refused(tiny, make_pair, monkeypatch):
    model, pair = tiny("tiny-llama"), make_pair()
    monkeypatch.delitem(WATCHED, "silu")
    with pytest.raises(UnsupportedOperation, match=r"meet silu/function .* base run has mul/prod"):
        by("tangent", model, pair)


def test_auto_takes_taylor_mode_where_curvature_is_not_declared(
    tiny, make_pair, monkeypatch, caplog
):
    model, pair = tiny("tiny-llama"), make_pair()
    expected = by("taylor", model, pair, nodes=(0.0, 0.5))
    monkeypatch.delitem(curvature.CURVED, "silu")
    with pytest.raises(UnsupportedOperation, match="no second derivative is declared for 'silu'"):
        by("tangent", model, pair)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(by("auto", model, pair, nodes=(0.0, 0.5)), expected)
    assert not caplog.records


def test_every_row_is_proven(tiny, make_pair, monkeypatch):
    model, pair = tiny("tiny-llama"), make_pair()
    metric_jets = tangent_module._metric_jets

    def off(*arguments):
        jets = metric_jets(*arguments)
        jets[7, 1] *= 1.001
        return jets

    monkeypatch.setattr(tangent_module, "_metric_jets", off)
    with pytest.raises(UnsupportedOperation, match=r"f' = .* of component \(1, 3\) of Llama"):
        by("tangent", model, pair)


def test_derivatives_that_are_not_finite_are_refused(tiny, make_pair, monkeypatch):
    model, pair = tiny("tiny-llama"), make_pair()
    monkeypatch.setitem(
        curvature.SECOND, "square", lambda g, x: torch.full((x.rows,), torch.inf).double()
    )
    with pytest.raises(UnsupportedOperation, match="tangent backend gives derivatives that are"):
        by("tangent", model, pair)
