"""What a checkpoint holds by its safetensors headers alone: tensors and their sizes, no weights.

Free of torch.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvp_patching.models.content import read_json, weight_files
from hvp_patching.models.errors import ModelError

LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
# Projections of query, key and value in one matrix, which TransformerLens splits into copies.
FUSED = re.compile(r"(c_attn|query_key_value|qkv_proj|Wqkv|in_proj_qkv|attn\.qkv)\.(weight|bias)$")


@dataclass(frozen=True)
class Header:
    """Numbers of a checkpoint: parameters, those in fused projections, those of the largest."""

    parameters: int
    fused: int
    largest: int


def read_header(folder: Path) -> Header:
    """The header of a checkpoint folder; ModelError where a file is damaged, cut short or absent.

    Tensors that are used twice (tied embeddings) stand once in a checkpoint and count once.
    """
    read_json(folder / "config.json")
    sizes: dict[str, int] = {}
    for path in weight_files(folder):
        sizes |= _tensors(path)
    fused = sum(size for name, size in sizes.items() if FUSED.search(name))
    return Header(sum(sizes.values()), fused, max(sizes.values(), default=0))


def _tensors(path: Path) -> dict[str, int]:
    """{tensor: number of elements} of one safetensors file."""
    damaged = ModelError(f"{path} is damaged or truncated: fetch it again")
    try:
        total = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(LARGEST_HEADER, total - 8):
                raise damaged
            header: Any = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        if end > total - 8 - length:
            raise damaged
        return {name: math.prod(map(int, entry["shape"])) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise damaged from error
