"""How well an autoencoder stands for the activations that it reads, on texts it never saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hvp_patching.features.activations import activations, losses
from hvp_patching.features.autoencoder import SparseAutoencoder, check_fits

BLOCK = 4096  # tokens encoded at once


def fidelity(
    model: Any,
    autoencoder: SparseAutoencoder,
    ids: torch.Tensor,
    advance: Callable[[int], Any] = lambda tokens: None,
) -> dict[str, float]:
    """Quality on texts [n, length], from the second position on.

    explained_variance: 1 − Σ‖x − x̂‖² / Σ‖x − mean‖²; l0: mean active features a token; dead: share
    of features active nowhere; loss, loss_spliced, loss_zero: cross-entropy in nats of the next
    token as it is, with x̂ in the place of x, and with 0; loss_recovered: (zero − spliced) /
    (zero − loss), a fraction; n_tokens. ModelError where the autoencoder does not fit the model.
    """
    check_fits(autoencoder, model)
    hook = autoencoder.kind.hook
    n_tokens = ids.shape[0] * (ids.shape[1] - 1)

    def part(tokens: int) -> None:
        advance(tokens // 4)

    x = activations(model, ids, hook, part)
    found = {"n_tokens": float(n_tokens), **_reconstruction(autoencoder, x)}
    replaced = {
        "loss": None,
        "loss_spliced": autoencoder.reconstruct,
        "loss_zero": torch.zeros_like,
    }
    for name, replace in replaced.items():
        # the first token's successor is predicted from a position that is never replaced
        found[name] = float(losses(model, ids, hook, replace)[:, 1:].double().mean())
        part(n_tokens)
    gap = found["loss_zero"] - found["loss"]
    found["loss_recovered"] = (found["loss_zero"] - found["loss_spliced"]) / gap
    return found


def _reconstruction(autoencoder: SparseAutoencoder, x: torch.Tensor) -> dict[str, float]:
    mean, like = x.double().mean(0), autoencoder.W_dec
    error = variance = active = 0.0
    alive = torch.zeros(autoencoder.n_features, dtype=torch.bool)
    with torch.no_grad():
        for block in torch.split(x, BLOCK):
            there = block.to(like)
            codes = autoencoder.encode(there) != 0
            error += float((there - autoencoder.reconstruct(there)).double().square().sum())
            variance += float((block.double() - mean).square().sum())
            active += float(codes.sum())
            alive |= codes.any(0).cpu()
    return {
        "explained_variance": 1 - error / variance,
        "l0": active / len(x),
        "dead": 1 - float(alive.double().mean()),
    }
