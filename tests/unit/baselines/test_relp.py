"""RelP against the network that its rules describe, with factors held constant, by differences.

Every rule alone and all together; each by hand on a toy besides.
"""

import itertools
import warnings
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import hvp_patching as hp
from hvp_patching.baselines import (
    BASELINES,
    COSTS,
    RelpInactive,
    gim_context,
    relp,
    relp_context,
)
from hvp_patching.models import load_model
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths.gradients import site_attribution
from hvp_patching.paths.precision import keep_precision

from .plain import SITES, Plain, at, held

RULES = ("ln_rule", "identity_rule", "half_rule", "ah_rule")
GATED = ("tiny-qwen2", "tiny-gemma2", "tiny-llama")
ON = {rule: {name: name == rule for name in RULES} for rule in RULES} | {
    "all": dict.fromkeys(RULES, True)
}


def attribution(model, pair, site="attn_heads", direction="noising", **rules):
    context = partial(relp_context, model, **rules)
    return site_attribution(model, pair, site, direction, context)


def hook_of(layer, name):
    return f"blocks.{layer}.mlp.{name}"


class Constant(Plain):
    """The forward pass of the network that rules describe: what they freeze is put in by hooks."""

    def frozen(self, *, ln_rule=False, identity_rule=False, half_rule=False, ah_rule=False):
        hooks = []
        suffixes = ("hook_scale",) * ln_rule + ("attn.hook_pattern",) * ah_rule
        points = {id(p): n for n, p in self.model.hook_dict.items() if n.endswith(suffixes)}
        names = list(points.values()) if suffixes else []
        hooks += map(held, names, self.read(self.ids, names))
        if identity_rule or half_rule:
            for layer in self.layers:
                hooks += self._mlp(layer, identity_rule, half_rule)
        return hooks

    def _mlp(self, layer, identity, half):
        gated = hook_of(layer, "hook_pre_linear") in self.model.hook_dict
        pre, up, post = (hook_of(layer, n) for n in ("hook_pre", "hook_pre_linear", "hook_post"))
        h, u = {}, {}
        (h0,), (p0,) = self.read(self.ids, [pre]), self.read(self.ids, [post])
        u0 = self.read(self.ids, [up])[0] if gated else torch.ones_like(h0)
        phi = self._activation(h0, p0 / u0)

        def product(value, hook):
            phi_h = phi(h0) / h0 * h["now"] if identity else phi(h["now"])
            u_now = u.get("now", u0)
            if half and gated:
                return phi_h * u0 / 2 + phi(h0) * u_now / 2
            return phi_h * u_now

        keep = [(pre, lambda a, hook: h.update(now=a))]
        keep += [(up, lambda a, hook: u.update(now=a))] if gated else []
        self._late = [*getattr(self, "_late", []), *keep]
        return [(post, product)]

    def _activation(self, h0, expected):
        """The activation function that gives what the model's own hooks hold."""
        for phi in (F.silu, F.gelu, partial(F.gelu, approximate="tanh")):
            if torch.allclose(phi(h0), expected, rtol=1e-9, atol=1e-12):
                return phi
        raise AssertionError("an activation function that this test does not know")

    def slopes(self, components, **rules):
        self._late = []
        hooks = self.frozen(**rules)
        unchanged = self.m([*self._late, *hooks])
        torch.testing.assert_close(unchanged, self.m(), rtol=1e-9, atol=1e-9)
        late = self._late
        found = []
        for layer, index in components:
            delta = self.component(layer, index)
            steps = torch.tensor([1, -1, 2, -2], dtype=torch.float64) * 1e-3
            shift = steps.view(-1, *[1] * (delta.ndim - 1)) * delta
            move = (self.names[layer], lambda a, hook, shift=shift: a + shift)
            # what is put in for post is before a patch there; what is read at pre is behind it
            order = [*hooks, move, *late]
            v = self.m(order, rows=4)
            found.append((8 * (v[0] - v[1]) - (v[2] - v[3])) / (12 * 1e-3))
        return torch.stack(found)


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*edited hook_scale.*")
        yield


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule", ON)
def test_each_rule_is_the_gradient_of_the_network_that_it_describes(family, rule, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=9)
    plain = Constant(model, pair, "attn_heads")
    components = plain.some()
    found = attribution(model, pair, **ON[rule])
    expected = plain.slopes(components, **ON[rule])
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(
        at(found, model, "attn_heads", components), expected, rtol=1e-6, atol=1e-8
    )
    acts = rule != "half_rule" or family in GATED
    assert bool((found - site_attribution(model, pair)).abs().max() > 1e-3) == acts


@pytest.mark.parametrize(
    ("family", "site"), list(itertools.product(("tiny-gpt2", "tiny-gemma2"), SITES))
)
def test_all_rules_at_every_site_and_in_both_directions(family, site, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=9)
    for direction in ("noising", "denoising"):
        plain = Constant(model, pair, site, direction)
        components = plain.some()
        found = at(relp(model, pair, site, direction), model, site, components)
        expected = plain.slopes(components, **ON["all"])
        assert float(expected.abs().max()) > 1e-5
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_without_rules_it_is_attribution_patching(tiny, make_pair):
    for family in FAMILIES:
        model, pair = tiny(family), make_pair()
        off = attribution(model, pair, "mlp_pre", **dict.fromkeys(RULES, False))
        torch.testing.assert_close(off, site_attribution(model, pair, "mlp_pre"))


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_values_are_the_models(family, tiny, make_pair):
    model, ids = tiny(family), torch.tensor([make_pair().clean_ids])
    mlps = {"ln_rule": False, "ah_rule": False}
    with torch.enable_grad(), keep_precision(torch.float64):
        plain = model(ids, use_cache=False)
        with relp_context(model, **mlps) as last:
            inside = model.run_with_hooks(ids, fwd_hooks=last, use_cache=False)
        assert torch.equal(inside, plain)  # to the last bit
        with relp_context(model) as last:
            inside = model.run_with_hooks(ids, fwd_hooks=last, use_cache=False)
    torch.testing.assert_close(inside, plain, rtol=1e-12, atol=1e-11)
    with torch.no_grad(), keep_precision(torch.float64), relp_context(model) as last:
        inside = model.run_with_hooks(ids, fwd_hooks=last, use_cache=False)
    torch.testing.assert_close(inside, plain, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("family", ["tiny-llama", "tiny-qwen2"])
def test_relevance_of_the_residual_stream_is_conserved(family, tiny, make_pair):
    """Without biases, and eps aside, the network of the rules is linear in what enters a layer.

    Then Σ coefficient · activation is the same after every layer, and that of the logits: the
    half rule makes even the gated MLP homogeneous of degree one.
    """
    model = tiny(family)
    pair = replace(make_pair(), corruption="zero", foil_ids=(23,))  # δ = −a
    biased = [n for n, p in model.named_parameters() if n.endswith("bias") and bool((p != 0).any())]
    scores = -relp(model, pair, "resid_post", metric="logit_difference")
    plain = Plain(model, pair, "resid_post")
    logits = plain.run(plain.ids)[0]
    if not biased:
        expected = (logits[17] - logits[23]).expand(len(scores))
        torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-8)
    ordinary = -site_attribution(model, pair, "resid_post", metric="logit_difference")
    assert float((ordinary - (logits[17] - logits[23])).abs().max()) > 1e-2
    assert biased or family == "tiny-llama"


# --- each rule by hand ------------------------------------------------------------------------


def toy(gated, values):
    """A layer's hooks as the rule for MLPs sees them, run by hand."""
    from hvp_patching.baselines.relp import _origin, _product

    names = ("pre", "up") if gated else ("pre",)
    origins, kept, inside = {}, {}, []
    for name, value in zip(names, values, strict=True):
        inside.append(_origin(origins, kept, name)(value, None))

    def post(phi, identity, half):
        p = phi(inside[0]) * (inside[1] if gated else 1)
        return _product(origins, kept, names, identity, half)(p, None)

    return post


def leaves(*values):
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


def test_the_identity_rule_by_hand():
    h, *_ = leaves([-2.0, 0.0, 0.5, 3.0])
    out = toy(False, [h])(F.silu, identity=True, half=False)
    assert torch.equal(out, F.silu(h))
    (found,) = torch.autograd.grad(out.sum(), h)
    expected = torch.sigmoid(h.detach())  # silu(h) / h, at 0 too, where it is silu'(0) = ½
    torch.testing.assert_close(found, expected)
    assert float(found[1]) == 0.5


def test_identity_and_half_rule_of_a_gate_by_hand():
    h, u = leaves([-2.0, 0.0, 0.5, 3.0], [1.5, -1.0, 0.0, 2.0])
    ratio, a = torch.sigmoid(h).detach(), F.silu(h).detach()
    slope = torch.func.vmap(torch.func.grad(lambda x: x * torch.sigmoid(x)))(h.detach())
    for identity, half in itertools.product((True, False), repeat=2):
        out = toy(True, [h, u])(F.silu, identity, half)
        assert torch.equal(out, F.silu(h) * u)
        to_h, to_u = torch.autograd.grad(out.sum(), (h, u))
        share = 0.5 if half else 1.0
        torch.testing.assert_close(to_h, share * (ratio if identity else slope) * u.detach())
        torch.testing.assert_close(to_u, share * a)
        if identity and half:  # relevance is conserved: h·c_h + u·c_u = p
            torch.testing.assert_close(h * to_h + u * to_u, F.silu(h) * u)


def test_a_patch_of_the_preactivation_is_before_the_rule(tiny, make_pair):
    """φ(h)/h, not φ'(h), is what a neuron's own patch is multiplied by."""
    model, pair = tiny("tiny-gpt2"), make_pair()
    rules = ON["identity_rule"]
    pre, post = (attribution(model, pair, site, **rules) for site in ("mlp_pre", "mlp_post"))
    plain_pre, plain_post = (Plain(model, pair, site) for site in ("mlp_pre", "mlp_post"))
    layer = model.cfg.n_layers - 1
    zero = replace(pair, corruption="zero")
    # under zero corruption δ = −h and −φ(h): both scores are then −φ(h) · ∂m/∂φ(h)
    pre, post = (attribution(model, zero, site, **rules) for site in ("mlp_pre", "mlp_post"))
    torch.testing.assert_close(pre, post, rtol=1e-9, atol=1e-12)
    assert float(post.abs().max()) > 1e-3
    ordinary = [site_attribution(model, zero, site) for site in ("mlp_pre", "mlp_post")]
    assert float((ordinary[0] - ordinary[1]).abs().max()) > 1e-3
    assert plain_pre.a[layer].shape == plain_post.a[layer].shape


# --- refusals ----------------------------------------------------------------------------------


def test_context_without_a_forward_pass_is_an_error(tiny):
    with (
        pytest.raises(RelpInactive, match="hooks that RelP modifies never fired"),
        relp_context(tiny("tiny-llama")),
    ):
        pass


def test_leaving_out_the_hooks_of_the_context_is_an_error(tiny, make_pair):
    model, ids = tiny("tiny-llama"), torch.tensor([make_pair().clean_ids])
    with (
        pytest.raises(RelpInactive, match="pass the hooks that the context gives as the last") as e,
        relp_context(model),
    ):
        model(ids, use_cache=False)
    assert "\n" not in str(e.value)


def test_layers_of_experts_are_refused(experts, make_pair):
    with pytest.raises(RelpInactive, match=r"^RelP: .*layer 0 .* so that its rules for") as caught:
        relp(experts, make_pair(), "mlp_out")
    assert "\n" not in str(caught.value)


def test_model_without_the_hooks_is_refused():
    with (
        pytest.raises(RelpInactive, match=r"no hook named \*hook_scale, which RelP modifies"),
        relp_context(SimpleNamespace(hook_dict={})),
    ):
        pass


def test_state_is_restored_after_an_exception(tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair()
    count = lambda: sum(len(h.fwd_hooks) for h in set(model.hook_dict.values()))  # noqa: E731
    before, plain, filters = count(), site_attribution(model, pair), list(warnings.filters)

    def fail_inside():
        with relp_context(model):
            assert count() > before
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert count() == before
    assert list(warnings.filters) == filters
    assert torch.equal(site_attribution(model, pair), plain)


# --- metric, positions, registry ---------------------------------------------------------------


def test_positions_and_metrics(tiny, make_pair):
    model, pair = tiny("tiny-gemma2"), replace(make_pair(n=9), foil_ids=(23,))
    for site in ("attn_heads", "mlp_pre", "mlp_out"):
        each = relp(model, pair, site, positions="each").view(-1, 9)
        torch.testing.assert_close(each.sum(1), relp(model, pair, site))
    found = relp(model, pair, metric="logit_difference")
    own = relp(model, pair, metric=hp.Metric(lambda x: x[17] - x[23]))
    torch.testing.assert_close(found, own)
    assert float((found - relp(model, pair)).abs().max()) > 1e-3


def test_registered_with_the_cost_of_one_pass(tiny, make_pair):
    assert BASELINES["relp"] is relp
    assert COSTS["relp"](tiny("tiny-gpt2")) == 1
    pair = make_pair()
    precise, single = (relp(tiny("tiny-llama", d), pair) for d in ("float64", "float32"))
    assert (single - precise).abs().max() < 1e-4 * precise.abs().max()


@pytest.mark.parametrize("context", [relp_context, gim_context])
def test_the_contexts_can_be_entered_inside_inference_mode(context, make_pair):
    model, ids = load_model("tiny-qwen2", device="cpu"), torch.tensor([make_pair().clean_ids])
    with torch.inference_mode(), context(model) as last:
        logits = model.run_with_hooks(ids, fwd_hooks=last or [], use_cache=False)
    assert logits.shape[:2] == ids.shape


def test_layers_that_mix_tokens_otherwise_are_refused(tiny, make_pair, monkeypatch):
    """As the convolutions of LFM2: no attention pattern to hold, and gates that no rule knows."""
    model = tiny("tiny-llama")
    fewer = {n: p for n, p in model.hook_dict.items() if n != "blocks.1.attn.hook_pattern"}
    monkeypatch.setattr(type(model), "hook_dict", property(lambda self: fewer))
    with pytest.raises(RelpInactive, match="layer 1 of LlamaForCausalLM mixes tokens without an"):
        relp(model, make_pair())


@pytest.mark.parametrize("name", ["relp", "gim", "gim_0_1_4"])
def test_a_model_that_fails_under_the_hooks_says_so_in_one_line(name, tiny, make_pair, monkeypatch):
    """As OLMo's norms, which have no weight and so no pass with an edited scale."""
    from transformer_lens.model_bridge.generalized_components.normalization import (
        NormalizationBridge,
    )

    def fail(self, *args, **kwargs):
        if torch.is_grad_enabled():
            raise AttributeError("'NormalizationBridge' object has\nno attribute 'weight'")
        return real(self, *args, **kwargs)

    model, pair = tiny("tiny-gpt2"), make_pair()
    relp(model, pair)  # every site proven before
    real = NormalizationBridge.forward
    monkeypatch.setattr(NormalizationBridge, "forward", fail)
    with pytest.raises(ValueError, match="GPT2LMHeadModel fails where gradients are mod") as caught:
        BASELINES[name](model, pair)
    assert "\n" not in str(caught.value)
