"""Texts that a model samples itself: a corpus for its autoencoders that no one has to ship."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from hvp_patching.features.keys import WorkKey
from hvp_patching.isolation import isolated
from hvp_patching.models.environment import current_environment
from hvp_patching.models.errors import ModelError
from hvp_patching.models.identity import current_identity
from hvp_patching.paths.precision import keep_precision
from hvp_patching.sites import configuration, run_model
from hvp_patching.store import Store

ROWS, LENGTH = 64, 128  # of one batch of texts: sequences, tokens in each with the first
HELD_OUT_SEED = 1_000_003  # added to the seed: texts that nothing was trained on
DOCUMENT_START = "<|endoftext|>"  # begins a document where no BOS token does
TEXTS_VERSION = 1
Advance = Callable[[int], Any]  # called with tokens that were done


@dataclass(frozen=True)
class TextKey(WorkKey):
    """One batch of sampled texts."""

    number: int
    rows: int
    length: int
    start: int
    version: int = TEXTS_VERSION


@isolated()
def sample_texts(
    model: Any,
    store: Store,
    n_tokens: int,
    seed: int = 0,
    advance: Advance = lambda tokens: None,
    rows: int = ROWS,
    length: int = LENGTH,
) -> torch.Tensor:
    """Token ids int64 [n, length] of at least `n_tokens` sampled tokens, at temperature 1.

    Every text begins with the token that begins documents, which counts as none. Batches pass
    through the store, so that a killed run goes on where it was; the same seed gives the same
    texts on the same processor. ModelError where the tokenizer has no token to begin with.
    """
    start, parts = first_token(model), []
    common = (current_identity(model), str(model.cfg.dtype), seed)
    for number in range(-(-n_tokens // (rows * (length - 1)))):
        key = TextKey(*common, number, rows, length, start)
        entry = store.get(key)
        if entry is None:
            generator = torch.Generator().manual_seed(seed + 1_000_000_007 * (number + 1))
            entry = {"ids": _sample(model, rows, length, start, generator)}
            store.put(key, entry, current_environment(model))
        parts.append(entry["ids"])
        advance(rows * (length - 1))
    return torch.cat(parts)


def first_token(model: Any) -> int:
    """The token that begins a document: BOS where the pretraining had it, else the separator."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ModelError("the model has no tokenizer, which names the token that begins a text")
    if model.hvp_spec.prepend_bos:
        return int(tokenizer.bos_token_id)
    found = tokenizer.get_vocab().get(DOCUMENT_START, tokenizer.eos_token_id)
    if found is None:
        raise ModelError(
            f"{model.hvp_spec.name}: its tokenizer has neither BOS, EOS nor {DOCUMENT_START}, so "
            "that no text can be sampled from it; give a folder of autoencoders"
        )
    return int(found)


def _sample(
    model: Any, rows: int, length: int, start: int, generator: torch.Generator
) -> torch.Tensor:
    device = next(model.parameters()).device
    cache = DynamicCache(config=configuration(model))
    ids = [torch.full((rows, 1), start, dtype=torch.int64)]
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        while len(ids) < length:
            new = ids[-1].to(device)
            logits = run_model(model, new, past_key_values=cache, use_cache=True)
            odds = logits[:, -1].double().softmax(-1).cpu()
            ids.append(torch.multinomial(odds, 1, generator=generator))
    return torch.cat(ids, dim=1)
