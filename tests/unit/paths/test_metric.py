"""Metrics: logit differences and functions of one's own, against plain forward passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import hvp_patching as hp
from hvp_patching.cache import Store, stored_baseline, stored_jets, stored_probes
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import gauss_newton_form, path_jets, site_attribution
from hvp_patching.screening import screen_flag_fix

BACKENDS = ("taylor", "autograd")
NODES = (0.0, 0.5)
# of the oracle's differences, order by order: units of float64 over powers of its step
# (a third difference at h = 0.005 leaves 8 · 2e-16 / h³ and its extrapolation more)
ROUNDING = torch.tensor([1e-12, 1e-10, 1e-8, 1e-6], dtype=torch.float64)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """−Σ p log p in nats, of logits [vocabulary]."""
    logs = torch.log_softmax(logits, -1)
    return -(logs.exp() * logs).sum()


def probability(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits, -1)[17]


# the metric, and the same on plain logits [rows, vocabulary], written anew
METRICS: dict[str, tuple[Any, Callable[[torch.Tensor], torch.Tensor]]] = {
    "pair": ("logit_difference", lambda x: x[:, 17] - x[:, 40]),
    "sets": (
        hp.logit_difference([50, 60]),
        lambda x: x[:, 17] - (x[:, 50].exp() + x[:, 60].exp()).log(),
    ),
    "entropy": (entropy, lambda x: torch.distributions.Categorical(logits=x).entropy()),
    "probability": (probability, lambda x: x[:, 17].exp() / x.exp().sum(-1)),
    "straight": (lambda x: x[3] - 2 * x[9], lambda x: x[:, 3] - 2 * x[:, 9]),
}


@pytest.fixture
def pair(make_pair):
    return replace(make_pair((4, 6)), foil_ids=(40,))


def oracle(plain_path, model, pair, name, site="attn_heads"):
    path = plain_path(model, pair, site)
    path.metric = METRICS[name][1]
    return path


def message(call: Callable[[], Any]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared)
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("family", FAMILIES)
def test_jets_of_every_metric(family, name, tiny, pair, plain_path):
    model, metric = tiny(family), METRICS[name][0]
    path = oracle(plain_path, model, pair, name)
    components = path.largest()
    options = {"components": components, "metric": metric}
    ends = hp.activation_patching(model, pair, **options)
    for backend in BACKENDS:
        jets = path_jets(model, pair, nodes=NODES, order=3, backend=backend, **options)
        for (layer, index), values in zip(components, jets.values, strict=True):
            expected = path.derivatives(layer, index, NODES)
            assert bool((expected != 0).all())
            scale = expected.abs().amax(0)
            assert bool(((values - expected).abs() <= 1e-5 * scale + ROUNDING).all())
    for (layer, index), effect in zip(components, ends, strict=True):
        f = path.f(layer, index, (0.0, 1.0))
        torch.testing.assert_close(effect, f[1] - f[0], rtol=1e-9, atol=1e-12)


def test_what_takes_a_site_takes_a_metric(tiny, pair, plain_path):
    model = tiny("tiny-llama")
    for name in ("sets", "entropy", "probability"):
        metric, path = METRICS[name][0], oracle(plain_path, model, pair, name)
        components = path.largest()
        slopes = site_attribution(model, pair, metric=metric)
        table = screen_flag_fix(model, pair, components=components, metric=metric, tau=0.0)
        ap, _ = gauss_newton_form(model, pair, components=components, metric=metric)
        products = hp.hessian_vector_products(
            model, pair, nodes=(0.0,), components=components, metric=metric
        )
        for i, (layer, index) in enumerate(components):
            _, f1, f2 = path.derivatives(layer, index, (0.0,))[0, :3].tolist()
            assert float(slopes[4 * layer + index]) == pytest.approx(f1, rel=1e-6)
            assert table["ap"][i] == pytest.approx(f1, rel=1e-6)
            assert table["fixed"][i] == pytest.approx(f1 + f2 / 2, rel=1e-6)
            assert float(ap[i]) == pytest.approx(f1, rel=1e-6)
            assert float(products.f2[i, 0]) == pytest.approx(f2, rel=1e-5)


def test_the_gauss_newton_form_of_a_straight_metric_is_zero(tiny, pair):
    ap, form = gauss_newton_form(tiny("tiny-llama"), pair, metric="logit_difference")
    assert bool((ap != 0).all())
    assert bool((form.abs() < 1e-12).all())
    _, bent = gauss_newton_form(tiny("tiny-llama"), pair, metric=entropy)
    assert bool((bent.abs() > 1e-12).all())


def test_a_function_gets_the_default_metrics_numbers(tiny, pair):
    """In everything that takes a metric: the function is another way to the same m."""
    model = tiny("tiny-gemma2")

    def same(logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits, -1)[17].log()  # GIM replaces softmax inside the model

    for function in (hp.gim, hp.atp_star, hp.atp_star_qkv, hp.gauss_newton):
        found, expected = function(model, pair, metric=same), function(model, pair)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)
    for function in (hp.local_curvature,):
        found, expected = function(model, pair, metric=same), function(model, pair)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)


def test_baselines_of_a_logit_difference_are_their_tokens(tiny, pair):
    """Every baseline but AtP* is linear in the metric."""
    model, other = tiny("tiny-qwen2"), replace(pair, foil_ids=(99,))
    between = replace(pair, target_ids=(40,), foil_ids=(99,))
    for function in (hp.gim, hp.local_curvature):
        site = "mlp_pre" if function is hp.local_curvature else "attn_heads"
        first, second, both = (
            function(model, p, site, metric="logit_difference") for p in (pair, between, other)
        )
        assert bool((both != 0).any())
        torch.testing.assert_close(first + second, both, rtol=1e-8, atol=1e-11)


# --- metrics that are none ------------------------------------------------------------------


def fails(logits: torch.Tensor) -> torch.Tensor:
    raise KeyError("no such token\nat all")


def once(logits: torch.Tensor) -> torch.Tensor:
    return Once.apply(logits)


class Once(torch.autograd.Function):
    """x₀² whose gradient has no gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x[0] ** 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        out = torch.zeros_like(x)
        out[0] = 2 * x[0] * grad
        return out


BAD = {
    "vector": (lambda x: x[:3], "returns shape (3,); return one scalar"),
    "one in a vector": (lambda x: x[:1], "returns shape (1,); return one scalar"),
    "number": (lambda x: float(x[0]), "returns a float; return a torch scalar"),
    "nothing": (lambda x: None, "returns a NoneType; return a torch scalar"),
    "half": (lambda x: x[0].float(), "returns torch.float32; keep the float64"),
    "argmax": (lambda x: x.argmax().double(), "has no gradient"),
    "detached": (lambda x: x.detach()[0], "has no gradient"),
    "detached in part": (lambda x: x[0] - x[1].detach(), "not differentiable there, or partly"),
    "rounded": (lambda x: x.round().sum(), "has a gradient of zero"),
    "NaN": (lambda x: x[0] * torch.nan, "is nan on the unpatched run"),
    "infinite": (lambda x: x[0] / 0, "on the unpatched run"),
    "random": (lambda x: x[0] + torch.rand((), dtype=x.dtype), "by differences on the unpatched"),
    "raises": (fails, "metric 'fails' fails on logits ["),
    "once": (once, "curvature 0 by autograd and "),
    "outside": (lambda x: x[10**6], "fails on logits"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_metric_that_is_none_is_named_in_one_line(case, tiny, pair):
    function, expected = BAD[case]
    for call in (path_jets, hp.activation_patching, site_attribution, screen_flag_fix, hp.gim):
        found = message(lambda c=call: c(tiny("tiny-llama"), pair, metric=function))
        assert f"metric '{function.__name__}'" in found
        assert expected in found


def test_what_is_no_metric_is_named(tiny, pair):
    for bad in ("logprobs", 3, None):
        found = message(lambda b=bad: path_jets(tiny("tiny-llama"), pair, metric=b))
        assert found.startswith(f"unknown metric {bad!r}; choose 'logprob', logit_difference(foil)")
    assert "not 3" in message(lambda: hp.Metric(3))


# --- foils ----------------------------------------------------------------------------------

TEXT = hp.PromptPair("Mary and John met", "Mary and Bill met", " Mary", "p1")


def test_foils_are_texts_ids_or_sets(tiny):
    model = tiny("tiny-llama")
    john = model.tokenizer(" John", add_special_tokens=False)["input_ids"]
    assert len(john) == 1
    own = path_jets(model, replace(TEXT, foil=" John"), metric="logit_difference").values
    for foil in (" John", john[0], [" John"], {john[0]}):
        found = path_jets(model, TEXT, metric=hp.logit_difference(foil)).values
        assert torch.equal(found, own)
    target = model.tokenizer(" Mary", add_special_tokens=False)["input_ids"][0]
    tokens = hp.as_token_pair(model, TEXT)
    with torch.no_grad():
        logits = model(torch.tensor([tokens.clean_ids]))[0, -1]
    expected = logits[target] - logits[john[0]]
    torch.testing.assert_close(own[0, 0, 0], expected, rtol=1e-5, atol=1e-5)


FOILS = {
    "missing": (None, "needs a foil and the pair has none"),
    "several tokens": (" Maryqqx", "prompt 'p1': foil ' Maryqqx' is "),
    "the target": (" Mary", "is foil and target at once; give another foil"),
    "empty": ("", "the foil is empty"),
    "outside": (10**6, "is outside the vocabulary"),
    "a number with a point": (1.5, "the foil 1.5 is neither a token's text, nor its id"),
    "twice": ([" John", " John"], "foils ' John' and ' John' are the same token"),
}


@pytest.mark.parametrize("case", FOILS)
def test_foils_that_cannot_be_meant_end_in_one_line(case, tiny):
    model, (foil, expected) = tiny("tiny-llama"), FOILS[case]
    metric = hp.logit_difference(foil)
    assert expected in message(lambda: path_jets(model, TEXT, metric=metric))
    if foil is not None:
        own = replace(TEXT, foil=foil)
        assert expected in message(lambda: path_jets(model, own, metric="logit_difference"))


def test_a_pairs_foil_changes_neither_its_name_nor_its_jets(tiny, pair):
    model = tiny("tiny-llama")
    bare = replace(pair, foil_ids=())
    assert torch.equal(path_jets(model, pair).values, path_jets(model, bare).values)
    unnamed = replace(bare, prompt_id="")
    assert (
        hp.as_token_pair(model, unnamed).prompt_id
        != hp.as_token_pair(model, replace(unnamed, foil_ids=(40,))).prompt_id
    )


# --- the store ------------------------------------------------------------------------------


def test_the_store_tells_metrics_foils_and_positions_apart(tmp_path, tiny, pair):
    store, model = Store(tmp_path), tiny("tiny-llama")
    asked = [
        {},
        {"metric": "logit_difference"},
        {"metric": hp.logit_difference(41)},
        {"metric": hp.Metric(entropy, name="entropy")},
        {"metric": hp.Metric(probability, name="entropy", version=2)},
        {"metric": hp.Metric(entropy, name="logprob")},
        {"positions": "each"},
        {"positions": [5, 6]},
    ]
    for options in asked:
        jets, computed = stored_jets(store, model, pair, "attn_heads", {0.0: 1}, **options)
        again, repeated = stored_jets(store, model, pair, "attn_heads", {0.0: 1}, **options)
        expected = path_jets(model, pair, "attn_heads", {0.0: 1}, **options)
        assert (computed, repeated) == (1, 0)
        for found in (jets, again):
            assert torch.equal(found.values, expected.values)
            assert list(found.components) == list(expected.components)
            assert bool((found.components == expected.components).all(axis=None))
    plain = stored_baseline(store, model, pair, "gim")
    other = stored_baseline(store, model, pair, "gim", metric="logit_difference")
    assert not torch.equal(plain, other)
    probes = stored_probes(store, model, pair, metric="logit_difference")
    assert not probes.equals(stored_probes(store, model, pair))


def test_a_function_without_a_name_is_not_stored(tmp_path, tiny, pair):
    found = message(
        lambda: stored_jets(
            Store(tmp_path), tiny("tiny-llama"), pair, "attn_heads", {0.0: 1}, metric=entropy
        )
    )
    assert found == (
        "metric 'entropy' has no name under which results can be stored; give "
        "Metric(function, name=…, version=…)"
    )
