"""AtP*: GradDrop against layers whose outputs are held fixed, the QK fix against patterns."""

import math
from types import SimpleNamespace

import pytest
import torch

from hvp_patching.baselines import BASELINES, COSTS
from hvp_patching.baselines._grad_drop import grad_drop
from hvp_patching.baselines.atp_star import SITES, atp_star
from hvp_patching.baselines.atp_star_qkv import NODES, atp_star_qkv, z_changes
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import site_attribution
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.precision import keep_precision
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.sites import get_site

HOOKS = {
    "attn_heads": "attn.hook_z",
    "mlp_pre": "mlp.hook_pre",
    "mlp_post": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
}
BRANCHES = ("hook_attn_out", "hook_mlp_out")
STEP = 2e-3


class Plain:
    """One prompt pair through the whole bridge: no prefix cache, no gradient, no batched drops."""

    def __init__(self, model, pair):
        self.model, self.targets = model, list(pair.target_ids)
        self.base, self.other = (
            torch.tensor([ids]) for ids in (pair.clean_ids, pair.corrupted_ids)
        )

    def metric(self, hooks, rows=1):
        with keep_precision(self.model.cfg.dtype):
            logits = self.model.run_with_hooks(
                self.base.expand(rows, -1), fwd_hooks=hooks, return_type="logits", use_cache=False
            )
        return logits[:, -1].log_softmax(-1)[:, self.targets].logsumexp(-1)

    def record(self, names, ids=None, hooks=()):
        """Activations of one run, by hook name."""
        found = {}

        def keep(name):
            def hook(activation, hook):
                found[name] = activation.clone()

            return hook

        reads = [(name, keep(name)) for name in names]
        with torch.no_grad(), keep_precision(self.model.cfg.dtype):
            self.model.run_with_hooks(
                self.base if ids is None else ids, fwd_hooks=[*hooks, *reads], use_cache=False
            )
        return found

    def changes(self, names):
        """The other run's activations minus the base run's."""
        base, other = (self.record(names, ids) for ids in (self.base, self.other))
        return {name: other[name] - base[name] for name in names}

    def gradients(self, names, dropped):
        """∂m/∂(activation) at the named hooks with one layer's outputs, or none, detached."""
        base = self.record(names)
        zeros = {name: torch.zeros_like(base[name], requires_grad=True) for name in names}
        hooks = [(n, lambda a, hook, zero=zero: a + zero) for n, zero in zeros.items()]
        if dropped is not None:
            hooks += [(f"blocks.{dropped}.{b}", lambda a, hook: a.detach()) for b in BRANCHES]
        # a detached layer's own hooks are not in the graph: their gradient is zero
        of = list(zeros.values())
        return torch.autograd.grad(self.metric(hooks).sum(), of, materialize_grads=True)


def put(value):
    def hook(activation, hook):
        return value.expand_as(activation)

    return hook


def slopes_with_layers_fixed(plain, site, layer, index, change, base):
    """d/dt m(a + tδ) at t = 0 while one layer's outputs keep their base values, per such layer.

    The last slope is that of the path with no layer fixed. Central differences of order h⁴.
    change: the site's in this layer; base: values of all layers' outputs.
    """
    name, n_layers = f"blocks.{layer}.{HOOKS[site]}", plain.model.cfg.n_layers
    where = {"attn_heads": (..., index, slice(None)), "mlp_out": ...}.get(site, (..., index))
    delta = torch.zeros_like(change)
    delta[where] = change[where]
    t = STEP * torch.tensor([1.0, -1.0, 2.0, -2.0], dtype=torch.float64).repeat(n_layers + 1)
    fixed = torch.arange(n_layers + 1).repeat_interleave(4).view(-1, 1, 1)
    hooks = [(name, lambda a, hook: a + t.view(-1, *[1] * (a.ndim - 1)) * delta)]
    for branch, value in base.items():
        rows = fixed == int(branch.split(".")[1])
        hooks.append((branch, lambda a, hook, rows=rows, value=value: torch.where(rows, value, a)))
    with torch.no_grad():
        a, b, c, d = plain.metric(hooks, rows=len(t)).view(-1, 4).unbind(1)
    return ((8 * (a - b) - (c - d)) / (12 * STEP)).tolist()


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_grad_drop_averages_slopes_with_each_layer_held_fixed(family, site, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=9)
    plain, n_layers = Plain(model, pair), model.cfg.n_layers
    scores = atp_star(model, pair, site).view(n_layers, -1)
    index = 0 if site == "mlp_out" else 2
    base = plain.record([f"blocks.{i}.{branch}" for i in range(n_layers) for branch in BRANCHES])
    changes = plain.changes([f"blocks.{i}.{HOOKS[site]}" for i in range(n_layers)])
    for layer, change in enumerate(changes.values()):
        *slopes, ap = slopes_with_layers_fixed(plain, site, layer, index, change, base)
        assert abs(slopes[layer]) < 1e-9  # its own layer: nothing gets out
        expected = math.copysign(sum(map(abs, slopes)) / (n_layers - 1), ap)
        assert abs(expected) > 1e-6
        assert scores[layer, index].item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def expected_nodes(plain):
    """AtP* of every head's query, key and value from exact patterns: [3, n_layers, n_heads]."""
    cfg, layers = plain.model.cfg, range(plain.model.cfg.n_layers)
    patterns, zs = (
        [f"blocks.{layer}.attn.{hook}" for layer in layers] for hook in ("hook_pattern", "hook_z")
    )
    base = plain.record(patterns)
    parts = {h: [f"blocks.{i}.attn.hook_{h}" for i in layers] for h in ("q", "k", "v")}
    other = plain.record([*parts["q"], *parts["k"]], plain.other)
    of_v = plain.changes(parts["v"])
    changes = {"q": [], "k": [], "v": []}
    for layer, pattern in enumerate(patterns):
        for part in ("q", "k"):
            name = parts[part][layer]
            patched = plain.record([pattern], hooks=[(name, put(other[name]))])[pattern]
            changes[part].append(patched - base[pattern])
        delta = of_v[parts["v"][layer]]
        delta = delta.repeat_interleave(cfg.n_heads // delta.shape[2], dim=2)
        changes["v"].append(torch.einsum("bhij,bjhd->bhid", base[pattern], delta))
    rows = []
    for dropped in (*layers, None):
        gradients = plain.gradients([*patterns, *zs], dropped)
        of_patterns, of_zs = gradients[: len(layers)], gradients[len(layers) :]
        pairs = [
            (of_patterns, changes["q"]),
            (of_patterns, changes["k"]),
            ([gradient.transpose(1, 2) for gradient in of_zs], changes["v"]),
        ]
        nodes = [[(g * c).sum((0, 2, 3)) for g, c in zip(*both, strict=True)] for both in pairs]
        rows.append(torch.stack([torch.stack(node) for node in nodes]))
    *drops, ap = rows
    return torch.stack(drops).abs().sum(0) / (len(layers) - 1) * ap.sign()


@pytest.mark.parametrize("family", FAMILIES)
def test_queries_and_keys_are_scored_by_the_exact_change_of_the_pattern(family, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=12)
    expected = expected_nodes(Plain(model, pair)).flatten(1)
    run = base_run(model, pair, get_site("attn_heads"))
    for site, node in zip(NODES, expected, strict=True):
        (score,) = grad_drop(run, [z_changes(base_run(model, pair, site), run.site)])
        assert node.abs().min() > 1e-7
        torch.testing.assert_close(score, node, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(atp_star_qkv(model, pair), expected.sum(0), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", ["tiny-qwen2", "tiny-gemma2", "tiny-llama"])
def test_query_heads_share_the_effect_of_their_value_head(family, tiny, make_pair):
    model, pair = tiny(family), make_pair()
    run, node = (base_run(model, pair, s) for s in (get_site("attn_heads"), NODES[2]))
    heads, plain = model.cfg.n_heads, Plain(model, pair)
    names = [f"blocks.{layer}.attn.{h}" for layer in range(2) for h in ("hook_z", "hook_v")]
    gradients = dict(zip(names, plain.gradients(names, None), strict=True))
    for layer, change in enumerate(z_changes(node, run.site)[:2]):
        start = pair.first_changed
        of_z = gradients[f"blocks.{layer}.attn.hook_z"][:, start:]
        by_query_head = (of_z * change).sum((0, 1, 3))
        value = f"blocks.{layer}.attn.hook_v"
        of_value_head = (gradients[value] * plain.changes([value])[value]).sum((0, 1, 3))
        assert len(of_value_head) == heads // 2
        torch.testing.assert_close(by_query_head.view(-1, 2).sum(1), of_value_head)


class Toy(torch.nn.Module):
    """Blocks on a residual stream behind the bridge's interface, m linear in its last entry.

    The target's logit is that entry - 40 and the only other logit is 0, so that
    m = entry - 40 up to exp(-40).
    """

    def __init__(self, tokens, blocks):
        super().__init__()
        self.tokens = torch.nn.Parameter(torch.tensor(tokens, dtype=torch.float64))
        self.blocks = blocks
        self.cfg = SimpleNamespace(
            n_layers=len(blocks),
            n_heads=1,
            dtype=torch.float64,
            d_model=len(tokens[0]),
            d_mlp=8,
            d_vocab=2,
        )
        self.tokenizer = range(len(tokens))
        self.train(False)

    def run_with_hooks(self, ids, fwd_hooks, **unused):
        def at(name, value):
            for hooked, hook in fwd_hooks:
                if hooked == name:
                    result = hook(value, hook=None)
                    value = value if result is None else result
            return value

        x = self.tokens[ids]
        for layer, block in enumerate(self.blocks):
            x = block(x, lambda name, value, layer=layer: at(f"blocks.{layer}.{name}", value))
        target = x[..., -1:] - 40
        return torch.cat([torch.zeros_like(target), target], dim=-1)


def scaled(factor):
    """A block whose MLP writes `factor` times the residual stream."""

    def block(x, at):
        x = x + at("hook_attn_out", 0.0 * x)
        return x + at("hook_mlp_out", factor * x)

    return block


def attention(gain):
    """A block with one head of width 2 that reads q, k, v from the stream and writes gain · z_0."""

    def block(x, at):
        q, k, v = (
            at(f"attn.hook_{name}", x[..., 2 * i : 2 * i + 2].unsqueeze(2))
            for i, name in enumerate("qkv")
        )
        scores = torch.einsum("bihd,bjhd->bhij", q, k)
        causal = torch.ones(scores.shape[-2:]).tril().bool()
        pattern = scores.masked_fill(~causal, -torch.inf).softmax(-1)
        z = at("attn.hook_z", torch.einsum("bhij,bjhd->bihd", pattern, v))
        out = torch.zeros_like(x)
        out[..., -1] = gain * z[:, :, 0, 0]
        x = x + at("hook_attn_out", out)
        return x + at("hook_mlp_out", 0.0 * x)

    return block


# q, k, v, output of two clean tokens and two corrupted ones: either query or key alone turns the
# last position's attention from the first token to itself
ATTENDING = [
    [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0],
    [30.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0],
    [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0],
    [0.0, 30.0, 1.0, 0.0, -1.0, 0.0, 0.0],
]


@pytest.mark.parametrize("node", NODES[:2], ids=["query", "key"])
def test_the_qk_fix_is_exact_where_the_softmax_is_saturated(node):
    toy = Toy(ATTENDING, [attention(gain=3.0), attention(gain=0.0)])
    pair = TokenPair((0, 1), (2, 3), (1,))
    one, run = base_run(toy, pair, node), base_run(toy, pair, get_site("attn_heads"))
    plain = Plain(toy, pair)
    name = f"blocks.0.{node.hook}"
    patched = plain.metric([(name, lambda a, hook: a + one.delta[0])])
    effect = (patched - plain.metric([])).item()
    assert effect == pytest.approx(-6.0)  # 3 · (-1 - 1)
    gradient = plain.gradients([name], None)[0]
    assert (gradient * one.delta[0]).sum().abs() < 1e-9  # what AP sees
    (score,) = grad_drop(run, [z_changes(one, run.site)])
    assert score.tolist() == pytest.approx([effect, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("cancelled", "expected"), [(0.9, 1.1 / 2), (1.1, -1.1 / 2), (1.0, 1.0 / 2), (0.0, 1.0)]
)
def test_grad_drop_sees_through_cancellation(cancelled, expected):
    """A node's direct effect 1 meets -`cancelled` through the next layer; a third layer is idle."""
    toy = Toy([[1.0], [2.0]], [scaled(1.0), scaled(-cancelled), scaled(0.0)])
    pair = TokenPair((0,), (1,), (1,))
    ap, star = site_attribution(toy, pair, "mlp_out"), atp_star(toy, pair, "mlp_out")
    # own layer dropped: 0; the second: 1; the third: 1 - cancelled
    assert ap.tolist() == pytest.approx([1 - cancelled, -2 * cancelled, 0.0], abs=1e-12)
    assert star.tolist() == pytest.approx([expected, -2 * cancelled, 0.0], abs=1e-12)


def test_rows_in_several_passes_give_the_same(tiny, make_pair):
    run = base_run(tiny("tiny-gemma2"), make_pair(), get_site("attn_heads"))
    (at_once,), (one_by_one,) = grad_drop(run, [run.delta]), grad_drop(run, [run.delta], memory=1)
    assert at_once.abs().min() > 0
    torch.testing.assert_close(one_by_one, at_once, rtol=1e-12, atol=0)


def test_the_other_direction_starts_from_the_corrupted_run(tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair()
    swapped = TokenPair(pair.corrupted_ids, pair.clean_ids, pair.target_ids)
    for baseline in (atp_star, atp_star_qkv):
        back = baseline(model, pair, direction="denoising")
        torch.testing.assert_close(back, baseline(model, swapped))
        assert (back - baseline(model, pair)).abs().max() > 1e-3


def test_registered_with_one_backward_pass_per_layer(tiny, make_pair):
    model, pair = tiny("tiny-gemma2"), make_pair()
    for name, function in (("atp_star", atp_star), ("atp_star_qkv", atp_star_qkv)):
        assert BASELINES[name] is function
        assert COSTS[name](model) == model.cfg.n_layers == 4
        scores = function(model, pair)
        assert scores.shape == (16,)
        assert scores.dtype == torch.float64


def test_what_cannot_be_scored_is_refused_in_one_line(tiny, make_pair):
    model, pair = tiny("tiny-gpt2"), make_pair()
    with pytest.raises(ValueError, match=r"^AtP\* drops .* 'resid_post' is in neither; choose"):
        atp_star(model, pair, "resid_post")
    with pytest.raises(ValueError, match=r"^unknown site 'heads'; choose one of: "):
        atp_star(model, pair, "heads")
    with pytest.raises(ValueError, match=r"^queries, .* site 'mlp_out'; use atp_star there$"):
        atp_star_qkv(model, pair, "mlp_out")
    with pytest.raises(ValueError, match=r"^GradDrop needs at least 2 layers, .* model has 1$"):
        atp_star(Toy([[1.0], [2.0]], [scaled(1.0)]), TokenPair((0,), (1,), (1,)), "mlp_out")
