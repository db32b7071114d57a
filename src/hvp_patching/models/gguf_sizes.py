"""The sizes that a GGUF file's header gives its model, held to the registry's and to its tensors.

Asked before the file is loaded: for a size that a header lacks, libraries take that of some model
of 7B weights, and draw them all at random.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hvp_patching.models.errors import ModelError
from hvp_patching.models.gguf_guard import Contents
from hvp_patching.models.plausible import check_plausible
from hvp_patching.models.registry import ModelSpec, Sizes

# The header's key behind its architecture's name, and config.json's for the same number.
SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "feed_forward_length": "intermediate_size",
}
OTHERS = {"vocab_size": "vocab_size", "attention.key_length": "head_dim"}
POSITIONS = "gpt2.context_length"  # learned; other architectures have no weights for them


def check_sizes(spec: ModelSpec, gguf: Path, header: Contents) -> None:
    """Raise ModelError where the header lacks a size, or has others than `spec` or its tensors."""
    architectures = {key.split(".")[0] for key in header.numbers if key.endswith(".block_count")}
    if len(architectures) != 1:
        found = ", ".join(sorted(architectures)) or "none"
        raise ModelError(
            f"{spec.name}: {gguf} says the number of layers of {found}; give a GGUF file of one "
            "model"
        )
    (architecture,) = architectures
    said: dict[str, Any] = {
        name: header.numbers.get(f"{architecture}.{key}") for key, name in (SIZES | OTHERS).items()
    }
    for key, name in SIZES.items():
        if not isinstance(said[name], int) or said[name] < 1:
            raise ModelError(
                f"{spec.name}: {gguf} does not say {architecture}.{key} in its header; give a "
                "whole GGUF file"
            )
    said["n_positions"] = header.numbers.get(POSITIONS)
    check_plausible(spec.name, gguf, said, header.shapes)
    sizes = Sizes(*(said[name] for name in SIZES.values()))
    if spec.sizes not in (None, sizes):
        raise ModelError(
            f"{spec.name} has {spec.sizes}, and the model in {gguf} has {sizes}; give {spec.name} "
            "a file of its own"
        )
