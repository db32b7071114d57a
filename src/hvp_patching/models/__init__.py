"""Models: the registry, and loaders from the package index, a Hub checkpoint or a local folder."""

from hvp_patching.models.convert import prepare_model
from hvp_patching.models.errors import ModelError
from hvp_patching.models.loading import (
    describe,
    from_huggingface,
    load_model,
    load_tokenizer,
)
from hvp_patching.models.registry import ModelSpec, get_spec, list_models

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
