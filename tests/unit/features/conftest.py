"""Seeded autoencoders of a tiny model's residual stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hvp_patching.features.autoencoder import Kind, SparseAutoencoder

HOOK = "blocks.1.hook_resid_pre"


@pytest.fixture
def made() -> Callable[..., SparseAutoencoder]:
    """An autoencoder by its kind, 16 features on a width, float64."""

    def make(width: int, activation: str = "topk", hook: str = HOOK) -> SparseAutoencoder:
        draw = torch.Generator().manual_seed(3)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        weights = {
            "W_enc": normal(width, 16),
            "W_dec": 0.3 * normal(16, width),
            "b_enc": 0.1 * normal(16),
            "b_dec": 0.1 * normal(width),
        }
        if activation == "jumprelu":
            weights["threshold"] = torch.full((16,), 0.2, dtype=torch.float64)
        return SparseAutoencoder(Kind(hook, activation, 6 * (activation == "topk")), weights)

    return make
