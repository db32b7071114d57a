"""Features against plain forward passes and a dense Hessian along the decoder rows."""

from __future__ import annotations

import pytest
import torch

from hvp_patching.features import feature_jets
from hvp_patching.features.patching import feature_moves, feature_patches
from hvp_patching.features.stored import stored_feature_jets
from hvp_patching.models.errors import ModelError
from hvp_patching.paths.precision import keep_precision
from hvp_patching.store import Store

MODELS = ("tiny-gpt2", "tiny-llama", "tiny-gemma2")
NODES = {0.0: 2, 1.0: 0}


class Plain:
    """The metric of runs to whose residual stream coefficients times code changes are added."""

    def __init__(self, model, pair, autoencoder):
        self.model, self.pair, self.hook = model, pair, autoencoder.kind.hook
        self.rows = autoencoder.W_dec
        self.change = self.codes(pair.corrupted_ids, autoencoder)
        self.change = self.change - self.codes(pair.clean_ids, autoencoder)

    def codes(self, ids, autoencoder):
        found = []
        with torch.no_grad(), keep_precision(self.model.cfg.dtype):
            self.model.run_with_hooks(
                torch.tensor([ids]), fwd_hooks=[(self.hook, lambda x, hook: found.append(x[0]))]
            )
        pre = (found[0] - autoencoder.b_dec) @ autoencoder.W_enc + autoencoder.b_enc
        if autoencoder.kind.activation == "relu":
            return pre.relu()
        if autoencoder.kind.activation == "jumprelu":
            return torch.where(pre > autoencoder.threshold, pre.relu(), 0.0)
        least = pre.sort(-1, descending=True).values[:, autoencoder.kind.k - 1 :][:, :1]
        return torch.where(pre >= least, pre.relu(), 0.0)

    def metric(self, coefficients):
        shift = (self.change * coefficients) @ self.rows
        with keep_precision(self.model.cfg.dtype):
            logits = self.model.run_with_hooks(
                torch.tensor([self.pair.clean_ids]),
                fwd_hooks=[(self.hook, lambda x, hook: x + shift)],
                return_type="logits",
            )
        return logits[0, -1].double().softmax(-1)[list(self.pair.target_ids)].sum().log()

    def along(self, j, t):
        with torch.no_grad():
            return float(self.metric(t * torch.eye(16, dtype=torch.float64)[j]))


@pytest.fixture(params=MODELS)
def model(request, tiny):
    return tiny(request.param)


@pytest.fixture
def pair(make_pair):
    return make_pair(changed=(3, 5), n=8)


@pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu"])
def test_exact_ap_and_hvp_agree_with_plain_passes(model, pair, made, activation):
    autoencoder = made(model.cfg.d_model, activation)
    plain = Plain(model, pair, autoencoder)
    jets = feature_jets(model, pair, autoencoder, NODES)
    assert jets.components["index"].tolist() == plain.change.any(0).nonzero().flatten().tolist()
    assert set(jets.components["layer"]) == {1}
    truth = jets.at(1.0, 0) - jets.at(0.0, 0)
    h = 2e-3
    for row, j in enumerate(jets.components["index"][:5]):
        at = {k: plain.along(j, k * h) for k in (-2, -1, 0, 1, 2)}
        first = (at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h)
        second = (-at[-2] + 16 * at[-1] - 30 * at[0] + 16 * at[1] - at[2]) / (12 * h * h)
        assert float(truth[row]) == pytest.approx(plain.along(j, 1.0) - at[0], rel=1e-8, abs=1e-10)
        assert float(jets.at(0.0, 1)[row]) == pytest.approx(first, rel=1e-5, abs=1e-8)
        assert float(jets.at(0.0, 2)[row]) == pytest.approx(second, rel=1e-4, abs=1e-6)
    assert truth.abs().max() > 1e-4
    assert jets.at(0.0, 2).abs().max() > 1e-6


def test_second_derivatives_are_the_diagonal_of_a_dense_hessian(tiny, pair, made):
    model = tiny("tiny-gpt2")
    autoencoder = made(model.cfg.d_model)
    plain = Plain(model, pair, autoencoder)
    hessian = torch.autograd.functional.hessian(plain.metric, torch.zeros(16, dtype=torch.float64))
    jets = feature_jets(model, pair, autoencoder)
    wanted = hessian.diagonal()[jets.components["index"].tolist()]
    assert wanted.abs().max() > 1e-6
    torch.testing.assert_close(jets.at(0.0, 2), wanted, rtol=1e-8, atol=1e-11)


def test_all_features_and_what_none_covers_make_up_the_whole_change(model, pair, made):
    autoencoder = made(model.cfg.d_model)
    moves = feature_moves(model, pair, autoencoder)
    kept = []
    for ids in (pair.clean_ids, pair.corrupted_ids):
        with torch.no_grad(), keep_precision(model.cfg.dtype):
            model.run_with_hooks(
                torch.tensor([ids]),
                fwd_hooks=[(autoencoder.kind.hook, lambda x, hook: kept.append(x[0]))],
            )
    delta = kept[1] - kept[0]
    patched = sum(patch.direction for patch in feature_patches(moves, autoencoder))
    assert moves.uncovered == pytest.approx(float((delta - patched).norm() / delta.norm()))
    assert moves.uncovered > 0


def test_the_store_gives_the_same_jets_and_knows_autoencoders_apart(tiny, pair, made, tmp_path):
    model, store = tiny("tiny-gpt2"), Store(tmp_path)
    autoencoder = made(model.cfg.d_model)
    first, uncovered, computed = stored_feature_jets(store, model, pair, autoencoder, NODES)
    again, same, none = stored_feature_jets(store, model, pair, autoencoder, NODES)
    assert (computed, none, same) == (2, 0, uncovered)
    assert torch.equal(first.at(0.0, 2), again.at(0.0, 2))
    other = made(model.cfg.d_model, "relu")
    assert stored_feature_jets(store, model, pair, other, NODES)[2] == 2


def test_an_autoencoder_of_another_model_is_refused(tiny, pair, made):
    model = tiny("tiny-gpt2")
    width = model.cfg.d_model
    with pytest.raises(ModelError, match=rf"^the autoencoder is {width + 1} wide .*stream {width}"):
        feature_jets(model, pair, made(width + 1))
    with pytest.raises(ModelError, match=r"^the autoencoder reads blocks\.77\..* layers;"):
        feature_jets(model, pair, made(width, hook="blocks.77.hook_resid_pre"))
    with pytest.raises(ModelError, match="features are patched in the residual stream"):
        made(width, hook="blocks.1.attn.hook_z")
    with pytest.raises(ValueError, match=r"^feature 16 requested of the autoencoder, which has 16"):
        feature_jets(model, pair, made(width), features=[16])
