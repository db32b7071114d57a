"""How many positions a model takes, and whether more of them are an error or only untrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
# Modules and buffers with one row a position, under the names they have in transformers.
TABLES = (
    "wpe",
    "embed_positions",
    "embed_position",
    "position_embeddings",
    "position_embedding",
    "positions_embed",
    "pos_emb",
    "pos_encoding",
)
FIXED_BIAS = {"mpt"}  # ALiBi built for max_seq_len positions and never grown


@dataclass(frozen=True)
class Positions:
    """`limit` positions (None: no limit known); `hard` where there is no row for one more."""

    limit: int | None
    hard: bool


def position_limit(hf_model: Any) -> Positions:
    """Read off the configuration, and off the tables of positions that the model has."""
    config = hf_model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = (getattr(text, key, None) for key in KEYS)
    limit = next((n for n in found if isinstance(n, int) and n > 0), None)
    rows = {
        int(getattr(module, "num_embeddings", 0))
        for name, module in hf_model.named_modules()
        if name.rpartition(".")[2] in TABLES
    } | {
        int(buffer.shape[0])
        for name, buffer in hf_model.named_buffers()
        if name.rpartition(".")[2] in TABLES and buffer.ndim > 1
    }
    rows.discard(0)
    if limit is not None and rows and getattr(text, "position_embedding_type", "") != "alibi":
        return Positions(limit, hard=True)
    return Positions(limit, hard=str(text.model_type) in FIXED_BIAS)
