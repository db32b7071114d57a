"""Fidelity against autoencoders that give all, nothing or a known part of what they read."""

from __future__ import annotations

import pytest
import torch

from hvp_patching.features.autoencoder import Kind, SparseAutoencoder
from hvp_patching.features.fidelity import fidelity
from hvp_patching.models.errors import ModelError
from hvp_patching.paths.precision import keep_precision

HOOK = "blocks.1.hook_resid_pre"


def of_identity(width: int, scale: float) -> SparseAutoencoder:
    """x̂ = scale · x: a feature for each sign of each coordinate."""
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    zeros = {"b_enc": torch.zeros(2 * width), "b_dec": torch.zeros(width)}
    return SparseAutoencoder(Kind(HOOK), {"W_enc": both.T, "W_dec": scale * both, **zeros})


@pytest.fixture
def model(tiny):
    return tiny("tiny-llama", "float32")


@pytest.fixture
def ids():
    return torch.randint(300, 3000, (5, 9), generator=torch.Generator().manual_seed(2))


def cross_entropy(model, ids, hooks):
    """Of every token from the third on, by a plain run of one text at a time."""
    found = []
    for text in ids:
        with torch.no_grad(), keep_precision(model.cfg.dtype):
            logits = model.run_with_hooks(text[None], fwd_hooks=hooks, return_type="logits")
        odds = logits[0, :-1].double().log_softmax(-1)
        found += [-float(odds[i, text[i + 1]]) for i in range(1, len(text) - 1)]
    return sum(found) / len(found)


def test_one_that_gives_everything_back_recovers_everything(model, ids):
    found = fidelity(model, of_identity(model.cfg.d_model, 1.0), ids)
    assert found["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert found["loss_spliced"] == pytest.approx(found["loss"], rel=1e-5)
    assert found["loss_recovered"] == pytest.approx(1, abs=1e-3)
    assert found["l0"] == pytest.approx(model.cfg.d_model)  # one sign of each coordinate
    assert found["n_tokens"] == 5 * 8


def test_one_that_gives_nothing_back_recovers_nothing(model, ids):
    width = model.cfg.d_model
    weights = {"W_enc": torch.zeros(width, 3), "W_dec": torch.ones(3, width)}
    weights |= {"b_enc": torch.zeros(3), "b_dec": torch.zeros(width)}
    found = fidelity(model, SparseAutoencoder(Kind(HOOK, subtracts_bias=False), weights), ids)
    assert found["loss_spliced"] == pytest.approx(found["loss_zero"], rel=1e-6)
    assert found["loss_recovered"] == pytest.approx(0, abs=1e-5)
    assert (found["l0"], found["dead"]) == (0, 1)


def test_losses_are_those_of_plain_runs(model, ids):
    found = fidelity(model, of_identity(model.cfg.d_model, 0.5), ids)

    def halve(x, hook):
        return torch.cat([x[:, :1], 0.5 * x[:, 1:]], dim=1)

    def clear(x, hook):
        return torch.cat([x[:, :1], 0 * x[:, 1:]], dim=1)

    plain, halved, zero = (
        cross_entropy(model, ids, hooks) for hooks in ([], [(HOOK, halve)], [(HOOK, clear)])
    )
    assert found["loss"] == pytest.approx(plain, rel=1e-5)
    assert found["loss_spliced"] == pytest.approx(halved, rel=1e-5)
    assert found["loss_zero"] == pytest.approx(zero, rel=1e-5)
    assert found["loss_recovered"] == pytest.approx((zero - halved) / (zero - plain), rel=1e-3)
    assert len({round(loss, 4) for loss in (plain, halved, zero)}) == 3


def test_an_autoencoder_of_another_width_is_refused(model, ids):
    with pytest.raises(ModelError):
        fidelity(model, of_identity(model.cfg.d_model + 1, 1.0), ids)
