"""Local curvature against finite differences of the model's own activation, rest linearised."""

import pytest
import torch

from hvp_patching.baselines import BASELINES, COSTS
from hvp_patching.baselines.local_curvature import local_curvature
from hvp_patching.baselines.local_curvature_unweighted import local_curvature_unweighted
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import path_jets, site_attribution
from hvp_patching.paths.precision import keep_precision
from hvp_patching.prompts.pair import TokenPair

STEP = 5e-3
OFFSETS = (0.0, 1.0, -1.0, 2.0, -2.0)


class LinearisedAbove:
    """ψ(t) = Σ_pos ∂m/∂post · post(h + tδ) for all neurons of a layer, whole prompts, no cache."""

    def __init__(self, model, pair):
        self.model, self.targets = model, list(pair.target_ids)
        self.base, self.other = (
            torch.tensor([ids]) for ids in (pair.clean_ids, pair.corrupted_ids)
        )

    def forward(self, ids, hooks):
        with keep_precision(self.model.cfg.dtype):
            logits = self.model.run_with_hooks(
                ids, fwd_hooks=hooks, return_type="logits", use_cache=False
            )
        return logits[:, -1].log_softmax(-1)[:, self.targets].logsumexp(-1)

    def read(self, ids, name, hooks=()):
        found = []
        keep = (name, lambda a, hook: found.append(a.detach().clone()))
        with torch.no_grad():
            self.forward(ids, [*hooks, keep])
        return found[0]

    def derivatives(self, layer, weighted=True):
        """First and second derivative of ψ at 0, [n_neurons] each, by differences of order h⁴.

        Not `weighted`: the second derivative of Σ_pos post(h + tδ) instead.
        """
        pre, post = (f"blocks.{layer}.mlp.{hook}" for hook in ("hook_pre", "hook_post"))
        delta = self.read(self.other, pre) - self.read(self.base, pre)
        zero = torch.zeros_like(self.read(self.base, post), requires_grad=True)
        m = self.forward(self.base, [(post, lambda a, hook: a + zero)])
        (gradient,) = torch.autograd.grad(m.sum(), zero)
        t = STEP * torch.tensor(OFFSETS, dtype=torch.float64).view(-1, 1, 1)
        rows = self.base.expand(len(t), -1)
        posts = self.read(rows, post, [(pre, lambda a, hook: a + t * delta)])
        psi, above, below, far, back = ((posts - posts[:1]) * gradient).sum(1)
        first = (8 * (above - below) - (far - back)) / (12 * STEP)
        if not weighted:
            psi, above, below, far, back = (posts - posts[:1]).sum(1)
        second = (16 * (above + below) - (far + back) - 30 * psi) / (12 * STEP**2)
        return first, second


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_second_order_expansion_of_the_activation_alone(family, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=9)
    oracle, n_layers = LinearisedAbove(model, pair), model.cfg.n_layers
    scores = local_curvature(model, pair).view(n_layers, -1)
    bends = 2 * (scores - site_attribution(model, pair, "mlp_pre").view(n_layers, -1))
    for layer in range(n_layers):
        first, second = oracle.derivatives(layer)
        size = float(second.abs().max())
        assert size > 1e-3
        assert float(second.abs().min()) > 0
        torch.testing.assert_close(bends[layer], second, rtol=1e-6, atol=1e-7 * size)
        torch.testing.assert_close(scores[layer], first + second / 2, rtol=1e-6, atol=1e-8)


def test_it_is_not_the_curvature_of_the_network(tiny, make_pair):
    model, pair = tiny("tiny-pythia"), make_pair()
    components = [(0, index) for index in range(8)]
    jets = path_jets(model, pair, "mlp_pre", components=components)
    local = 2 * (local_curvature(model, pair)[:8] - jets.at(0.0, 1))
    network = jets.at(0.0, 2)
    assert (local - network).abs().max() > 0.1 * network.abs().max() > 0


def test_the_other_direction_starts_from_the_corrupted_run(tiny, make_pair):
    model, pair = tiny("tiny-gemma2"), make_pair()
    swapped = TokenPair(pair.corrupted_ids, pair.clean_ids, pair.target_ids)
    back = local_curvature(model, pair, direction="denoising")
    torch.testing.assert_close(back, local_curvature(model, swapped))
    assert (back - local_curvature(model, pair)).abs().max() > 1e-3


def test_registered_with_the_cost_of_one_backward_pass(tiny, make_pair):
    model = tiny("tiny-qwen2")
    assert BASELINES["local_curvature"] is local_curvature
    assert COSTS["local_curvature"](model) == 1
    scores = local_curvature(model, make_pair())
    assert scores.shape == (3 * 64,)
    assert scores.dtype == torch.float64


def test_float32_agrees_with_float64(tiny, make_pair):
    pair = make_pair()
    precise, single = (local_curvature(tiny("tiny-llama", d), pair) for d in ("float64", "float32"))
    assert (single - precise).abs().max() < 1e-4 * precise.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_without_its_weight_it_is_the_curvature_of_the_neurons_output(family, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=9)
    oracle, n_layers = LinearisedAbove(model, pair), model.cfg.n_layers
    scores = local_curvature_unweighted(model, pair).view(n_layers, -1)
    for layer in range(n_layers):
        first, second = oracle.derivatives(layer, weighted=False)
        expected = first + second / 2
        assert bool((expected.abs() > 0).all())
        assert float((scores[layer] - expected).abs().max() / expected.abs().max()) < 1e-7
    assert float((scores.flatten() - local_curvature(model, pair)).abs().max()) > 1e-3


@pytest.mark.parametrize("site", ["attn_heads", "mlp_post", "mlp_out", "resid_post"])
def test_other_sites_are_refused_in_one_line(site, tiny, make_pair):
    with pytest.raises(ValueError, match=f"site '{site}' is not in front of; .*'mlp_pre'$"):
        local_curvature(tiny("tiny-gpt2"), make_pair(), site)
