"""Models: the registry, and loaders from the package index, a Hub checkpoint or a local folder."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hvp_patching.models.errors import ModelError
from hvp_patching.models.registry import ModelSpec, get_spec, list_models

if TYPE_CHECKING:
    from hvp_patching.models.convert import prepare_model
    from hvp_patching.models.loading import (
        describe,
        from_huggingface,
        load_model,
        load_tokenizer,
    )

__all__ = [
    "ModelError",
    "ModelSpec",
    "describe",
    "from_huggingface",
    "get_spec",
    "list_models",
    "load_model",
    "load_tokenizer",
    "prepare_model",
]

# Resolved on first use: the registry's names are wanted without seconds of importing torch.
_HOMES = {
    "convert": ("prepare_model",),
    "loading": ("describe", "from_huggingface", "load_model", "load_tokenizer"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"hvp_patching.models.{module}"), name)
    raise AttributeError(f"module 'hvp_patching.models' has no attribute '{name}'")
