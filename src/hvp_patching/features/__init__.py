"""Features of sparse autoencoders: their codes as components that can be patched (section 4.5)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvp_patching.features.autoencoder import SparseAutoencoder
    from hvp_patching.features.layout import load_autoencoder, save_autoencoder
    from hvp_patching.features.patching import feature_jets

__all__ = ["SparseAutoencoder", "feature_jets", "load_autoencoder", "save_autoencoder"]

# Resolved on first use: the workflow asks where published autoencoders lie without torch.
_HOMES = {
    "autoencoder": ("SparseAutoencoder",),
    "layout": ("load_autoencoder", "save_autoencoder"),
    "patching": ("feature_jets",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"hvp_patching.features.{module}"), name)
    raise AttributeError(f"module 'hvp_patching.features' has no attribute '{name}'")
