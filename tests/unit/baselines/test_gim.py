import warnings
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import gim as gim_explain
import pytest
import torch
import torch.nn.functional as F

from hvp_patching.baselines import BASELINES, COSTS, gim_0_1_4
from hvp_patching.baselines._rules import scaled_gradient
from hvp_patching.baselines.gim import GimInactive, gim, gim_context
from hvp_patching.models import load_model
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths.gradients import site_attribution

from .plain import Plain, at

OFF = {
    "freeze_norm": False,
    "softmax_temperature": None,
    "q_scale": None,
    "k_scale": None,
    "v_scale": None,
    "gated_scale": None,
}
MODIFICATIONS = {
    "norm": {"freeze_norm": True},
    "softmax": {"softmax_temperature": 2.0},
    "q": {"q_scale": 0.25},
    "k": {"k_scale": 0.25},
    "v": {"v_scale": 0.5},
    "gate": {"gated_scale": 0.5},
}


def attribution(model, pair, **on):
    return site_attribution(model, pair, "attn_heads", "noising", partial(gim_context, model, **on))


def ids(pair):
    return torch.tensor([pair.clean_ids])


def difference(one, other):
    return ((one - other).abs().max() / other.abs().max()).item()


def hook_count(model):
    return sum(len(h.fwd_hooks) + len(h.bwd_hooks) for h in set(model.hook_dict.values()))


def test_forward_values_stay(model, pair):
    plain = model(ids(pair), use_cache=False)
    with gim_context(model):
        inside = model(ids(pair), use_cache=False)
    assert torch.allclose(inside, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())


def test_everything_off_is_attribution_patching(model, pair):
    assert difference(attribution(model, pair, **OFF), site_attribution(model, pair)) < 1e-6


@pytest.mark.parametrize("name", MODIFICATIONS)
def test_each_modification_alone_changes_the_gradient(model, pair, name):
    if name == "gate" and not model.cfg.gated_mlp:
        pytest.skip("no gate, nothing to do")
    changed = attribution(model, pair, **(OFF | MODIFICATIONS[name]))
    assert difference(changed, site_attribution(model, pair)) > 1e-3


@pytest.mark.parametrize("name", ["softmax", "q", "k", "v"])
def test_attention_modifications_leave_the_metric_alone(model, pair, name):
    # no attention follows the last layer's heads: their scores change only if the
    # temperature also acts on the normalisation of the logits
    n_heads = model.cfg.n_heads
    changed = attribution(model, pair, **(OFF | MODIFICATIONS[name]))[-n_heads:]
    assert difference(changed, site_attribution(model, pair)[-n_heads:]) < 1e-5


@pytest.mark.parametrize("name", ["q_scale", "k_scale", "v_scale"])
def test_a_scale_multiplies_one_path_of_the_gradient(model, pair, name):
    """With one attention layer after it, a head's score is linear in the scale, and 1 is AP."""
    layer = slice(-2 * model.cfg.n_heads, -model.cfg.n_heads)
    at = {s: attribution(model, pair, **(OFF | {name: s})) for s in (0.0, 0.25, 1.0)}
    assert difference(at[1.0], site_attribution(model, pair)) < 1e-6
    expected = 0.75 * at[0.0][layer] + 0.25 * at[1.0][layer]
    assert torch.allclose(at[0.25][layer], expected, rtol=1e-4, atol=1e-6)
    assert difference(at[0.0][layer], at[1.0][layer]) > 1e-3


# --- gated MLPs: what the package's releases up to 0.1.4 do not do -------------------------------

GATED = ("tiny-qwen2", "tiny-gemma2", "tiny-llama")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("site", ["attn_heads", "mlp_pre", "mlp_post", "resid_post"])
def test_the_gates_rule_alone_is_the_gradient_of_half_of_either_factor(
    family, site, tiny, make_pair
):
    """In every layer (φ(h) u₀ + φ(h₀) u) / 2 in the place of φ(h) u, by differences."""
    model, pair = tiny(family), make_pair(changed=(4, 6), n=9)
    context = partial(gim_context, model, **(OFF | {"gated_scale": 0.5}))
    found = site_attribution(model, pair, site, "noising", context)
    plain = Plain(model, pair, site)
    if family not in GATED:
        assert torch.equal(found, site_attribution(model, pair, site))
        return
    first, last = [], []
    for layer in range(model.cfg.n_layers):
        one, other = half_of_either(plain, layer)
        first.append(one)
        last += other
    components = plain.some()
    assert torch.allclose(plain.m([*last, *first]), plain.m(), rtol=1e-10)
    expected = slopes_between(plain, components, first, last)
    assert float(expected.abs().max()) > 1e-4
    torch.testing.assert_close(at(found, model, site, components), expected, rtol=1e-6, atol=1e-9)
    changed = site != "mlp_post" or model.cfg.n_layers > 1
    assert (float((found - site_attribution(model, pair, site)).abs().max()) > 1e-3) == changed


def half_of_either(plain, layer):
    """Hooks of a layer: the product, and what reads its factors behind all else."""
    up, post = (f"blocks.{layer}.mlp.{h}" for h in ("hook_pre_linear", "hook_post"))
    (u0,), (p0,) = plain.read(plain.ids, [up]), plain.read(plain.ids, [post])
    now = {}

    def product(value, hook):  # value: φ(h) u
        return value / now["u"] * u0 / 2 + p0 / u0 * now["u"] / 2

    return (post, product), [(up, lambda a, hook: now.update(u=a))]


def slopes_between(plain, components, first, last, h=1e-3):
    found = []
    for layer, index in components:
        delta = plain.component(layer, index)
        steps = torch.tensor([1, -1, 2, -2], dtype=torch.float64) * h
        shift = steps.view(-1, *[1] * (delta.ndim - 1)) * delta
        move = (plain.names[layer], lambda a, hook, shift=shift: a + shift)
        v = plain.m([*first, move, *last], rows=4)
        found.append((8 * (v[0] - v[1]) - (v[2] - v[3])) / (12 * h))
    return torch.stack(found)


def test_a_gate_by_hand():
    """Both factors' gradients halved: what the product gets, halved."""
    h = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    u = torch.tensor([1.5, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    out = scaled_gradient(0.5)(F.silu(h) * u, None)
    assert torch.equal(out, F.silu(h) * u)
    to_h, to_u = torch.autograd.grad(out.sum(), (h, u))
    s = torch.sigmoid(h).detach()
    torch.testing.assert_close(to_h, (s + h * s * (1 - s)).detach() * u.detach() / 2)
    torch.testing.assert_close(to_u, (h * s).detach() / 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_release_is_gim_without_the_gates_rule(family, tiny, make_pair):
    model, pair = tiny(family), make_pair()
    release = gim_0_1_4(model, pair)
    assert torch.equal(release, attribution(model, pair, gated_scale=None))
    if family in GATED:
        assert difference(gim(model, pair), release) > 1e-2
    else:
        assert torch.equal(gim(model, pair), release)


def test_the_release_is_what_the_package_itself_does(tiny, make_pair):
    """The package's own context, with nothing of ours but the softmax that takes a dtype."""
    from hvp_patching.baselines.gim import _softmax_takes_dtype

    model, pair = tiny("tiny-llama"), make_pair()

    @contextmanager
    def package():
        with gim_explain.GIM(model), _softmax_takes_dtype([0]):
            yield

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = site_attribution(model, pair, "attn_heads", "noising", package)
    torch.testing.assert_close(gim_0_1_4(model, pair), own, rtol=1e-12, atol=1e-14)


def test_layers_of_experts_have_gates_that_no_hook_shows(experts, make_pair):
    with pytest.raises(GimInactive, match=r"^GIM: .*layer 0 .* its rule for gated MLPs") as caught:
        gim(experts, make_pair())
    assert "\n" not in str(caught.value)
    assert bool((gim_0_1_4(experts, make_pair()) != 0).any())


def test_a_gate_that_never_runs_is_an_error(tiny, make_pair, monkeypatch):
    model, ids = tiny("tiny-llama"), torch.tensor([make_pair().clean_ids])
    with (
        pytest.raises(GimInactive, match=r"never fired \(first: blocks\.2\.mlp\.hook_post"),
        gim_context(model, **(OFF | {"gated_scale": 0.5})),
    ):
        model(ids, use_cache=False, stop_at_layer=2)


def test_every_norm_and_every_projection_is_reached(model, pair):
    names = [n for n in model.hook_dict if n.endswith((".attn.hook_q", ".attn.hook_k"))]
    assert len(names) == 2 * model.cfg.n_layers
    # a pass through the whole model satisfies the check of all hook points on exit
    assert gim(model, pair).shape == (model.cfg.n_layers * model.cfg.n_heads,)


def test_gim_is_the_context_with_the_packages_defaults(one_model, pair):
    defaults = {
        "freeze_norm": True,
        "softmax_temperature": 2,
        "q_scale": 0.25,
        "k_scale": 0.25,
        "v_scale": 0.5,
        "gated_scale": 0.5,
    }
    estimate = gim(one_model, pair)
    assert estimate.dtype == torch.float64
    assert torch.equal(estimate, attribution(one_model, pair, **defaults))
    denoised = gim(one_model, pair, direction="denoising")
    assert difference(denoised, estimate) > 1e-3
    assert gim(one_model, pair, site="resid_post").shape == (one_model.cfg.n_layers,)


def test_registry_and_cost(one_model, pair):
    assert "gim" in BASELINES
    assert set(BASELINES) == set(COSTS)
    assert COSTS["gim"](one_model) == 1
    assert torch.equal(BASELINES["gim"](one_model, pair), gim(one_model, pair))


def test_state_is_restored_after_an_exception(model, pair):
    softmaxes = (F.softmax, torch.softmax, torch.Tensor.softmax)
    filters, hooks = list(warnings.filters), hook_count(model)
    plain = site_attribution(model, pair)

    def fail_inside():
        with gim_context(model):
            assert F.softmax is not softmaxes[0]
            assert hook_count(model) > hooks
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert (F.softmax, torch.softmax, torch.Tensor.softmax) == softmaxes
    assert list(warnings.filters) == filters
    assert hook_count(model) == hooks
    assert torch.equal(site_attribution(model, pair), plain)


def test_hooks_of_others_survive(one_model, pair):
    seen = []

    def note(tensor, hook):
        seen.append(hook.name)

    names = ["blocks.0.ln1.hook_scale", "blocks.0.attn.hook_q"]
    with one_model.hooks(fwd_hooks=[(name, note) for name in names]):
        gim(one_model, pair)
        seen.clear()
        one_model(ids(pair), use_cache=False)
    assert len(seen) == 2


def test_only_the_expected_warning_is_silenced(one_model, pair):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gim_context(one_model):
            one_model(ids(pair), use_cache=False)
            warnings.warn("someone else's", stacklevel=1)
    assert [str(w.message) for w in caught] == ["someone else's"]
    # the same edit without the context does warn, so there was something to silence
    with (
        one_model.hooks(fwd_hooks=[("blocks.0.ln1.hook_scale", lambda s, hook: s * 1.0)]),
        pytest.warns(UserWarning, match="edited hook_scale"),
    ):
        one_model(ids(pair), use_cache=False)


SCORES = torch.linspace(-2, 3, 12, dtype=torch.float64).reshape(3, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.softmax(x, dim=-1, dtype=torch.float32),
        lambda x: F.softmax(x, -1, _stacklevel=5),
        lambda x: F.softmax(x, -1, 3, torch.float32),
        lambda x: torch.softmax(x, -1, dtype=torch.float32),
        lambda x: torch.softmax(x, 0, torch.float32),
        lambda x: x.softmax(-1),
        lambda x: x.softmax(dim=0, dtype=torch.float32),
    ],
)
def test_softmax_takes_what_models_pass(one_model, pair, call):
    expected = call(SCORES)
    with gim_context(one_model):
        one_model(ids(pair), use_cache=False)
        inside = call(SCORES)
    assert inside.dtype == expected.dtype
    assert torch.allclose(inside, expected, atol=1e-7)


def test_the_softmax_is_differentiated_at_temperature_two(one_model, pair):
    """Against the Jacobian of softmax(x / 2) with respect to x / 2, written out."""
    weights = torch.arange(4, dtype=torch.float64) ** 2
    x = SCORES.clone().requires_grad_(True)
    with gim_context(one_model):
        one_model(ids(pair), use_cache=False)
        (found,) = torch.autograd.grad((F.softmax(x, dim=-1) * weights).sum(), x)
    exps = (SCORES / 2).exp()
    p = exps / exps.sum(-1, keepdim=True)
    expected = p * (weights - (p * weights).sum(-1, keepdim=True))
    assert torch.allclose(found, expected, rtol=1e-6)


def test_log_softmax_keeps_its_gradient(one_model, pair):
    def gradient():
        x = SCORES.clone().requires_grad_(True)
        return torch.autograd.grad(x.log_softmax(-1)[:, 0].sum(), x)[0]

    expected = gradient()
    with gim_context(one_model):
        one_model(ids(pair), use_cache=False)
        assert torch.equal(gradient(), expected)


def test_context_without_a_forward_pass_is_an_error(one_model):
    with (
        pytest.raises(GimInactive, match="hooks that GIM modifies never fired"),
        gim_context(one_model),
    ):
        pass


def test_half_a_forward_pass_is_an_error(one_model, pair):
    with pytest.raises(GimInactive, match=r"first: blocks\.1\."), gim_context(one_model):
        one_model(ids(pair), stop_at_layer=1)


def test_attention_that_takes_another_softmax_is_an_error(one_model, pair, monkeypatch):
    real = torch.softmax

    def own_softmax(self, scores, dtype=None):
        return real(scores, -1)

    attention = type(one_model.blocks[0].attn)
    monkeypatch.setattr(attention, "_masked_softmax", own_softmax)
    with pytest.raises(GimInactive, match="temperature acted 0 times in 3 attention layers"):
        gim(one_model, pair)


def test_model_without_the_hooks_is_refused():
    bare = SimpleNamespace(hook_dict={})
    with pytest.raises(GimInactive, match=r"no hook named \*hook_scale"), gim_context(bare):
        pass


def test_errors_are_one_line_value_errors(one_model):
    with pytest.raises(ValueError, match="GIM") as caught, gim_context(one_model):
        pass
    assert "\n" not in str(caught.value)


def test_float64_agrees_with_float32(one_model, pair):
    precise = load_model("tiny-llama", dtype="float64", device="cpu")
    assert difference(gim(one_model, pair), gim(precise, pair)) < 1e-4
    off = attribution(precise, pair, **OFF)
    assert difference(off, site_attribution(precise, pair)) < 1e-14
