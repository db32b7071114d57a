"""What a pair of token ids must be before a model runs on it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hvp_patching.prompts.forms import (
    ZERO_CORRUPTION,
    TokenizerCarrier,
    TokenPair,
    UnfitPrompt,
    label,
)
from hvp_patching.prompts.texts import as_integer

SIDES = ("clean_ids", "corrupted_ids", "target_ids", "foil_ids")


def check_ids(pair: TokenPair, vocabulary: int | None = None) -> TokenPair:
    """The pair with plain ints; UnfitPrompt on empty, unequal, identical or out-of-range ids.

    Ids may be any sequence or tensor of whole numbers, [n_pos] or [1, n_pos]; the target one
    number or several, the foil too, or none. Identical ids are allowed under zero corruption only,
    which has no corrupted run.
    """
    plain: dict[str, Any] = {side: _plain_ids(pair, side) for side in SIDES}
    pair = replace(pair, **plain)
    name, n_clean, n_corrupted = label(pair), len(pair.clean_ids), len(pair.corrupted_ids)
    for side, ids in (("clean", pair.clean_ids), ("corrupted", pair.corrupted_ids)):
        if not ids:
            raise UnfitPrompt(
                f"{name}: the {side} prompt is empty (0 tokens); give at least one token",
                "empty prompt",
            )
    if not pair.target_ids:
        raise UnfitPrompt(
            f"{name}: the target is empty; give at least one token id", "empty target"
        )
    for what, ids in (("target", pair.target_ids), ("foil", pair.foil_ids)):
        if len(set(ids)) != len(ids):
            raise UnfitPrompt(
                f"{name}: the {what} set has {len(ids)} ids but only {len(set(ids))} different "
                "ones; name each token once",
                f"{what} set repeats a token",
            )
    check_foil(pair, pair.foil_ids)
    if n_clean != n_corrupted:
        raise UnfitPrompt(
            f"{name}: lengths differ after tokenisation, clean has {n_clean} tokens and corrupted "
            f"{n_corrupted}; change the text so that both have the same number",
            "lengths differ after tokenisation",
        )
    if pair.clean_ids == pair.corrupted_ids and pair.corruption != ZERO_CORRUPTION:
        raise UnfitPrompt(
            f"{name}: clean and corrupted are identical ({n_clean} tokens); "
            "a pair must differ in at least one token",
            "pair identical",
        )
    if vocabulary is not None:
        _check_range(pair, vocabulary)
    return pair


def check_foil(pair: TokenPair, foil_ids: tuple[int, ...]) -> None:
    """UnfitPrompt where a foil is a target too: their logits would cancel."""
    both = [token for token in foil_ids if token in pair.target_ids]
    if both:
        raise UnfitPrompt(
            f"{label(pair)}: token {both[0]} is foil and target at once; give another foil",
            "foil equals target",
        )


def _plain_ids(pair: TokenPair, side: str) -> tuple[int, ...]:
    value: Any = getattr(pair, side)
    if hasattr(value, "tolist"):  # an array or tensor of numpy or torch
        value = value.tolist()
    ids = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if len(ids) == 1 and isinstance(ids[0], list | tuple):  # [1, n_pos], as tokenizers give it
        ids = list(ids[0])
    found = [as_integer(token) for token in ids]
    if None in found:
        raise UnfitPrompt(
            f"{label(pair)}: {side} has {ids[found.index(None)]!r}, which is no token id; "
            "give whole numbers, or texts in a PromptPair",
            "no token id",
        )
    return tuple(token for token in found if token is not None)


def _check_range(pair: TokenPair, vocabulary: int) -> None:
    for field in SIDES:
        side = field.removesuffix("_ids")
        for position, token in enumerate(getattr(pair, field)):
            if not 0 <= token < vocabulary:
                raise UnfitPrompt(
                    f"{label(pair)}: token id {token} ({side}, position {position}) is outside the "
                    f"vocabulary of {vocabulary} (0 to {vocabulary - 1}); "
                    "tokenise with this model's own tokenizer",
                    "token id outside vocabulary",
                )


def vocabulary_size(model: TokenizerCarrier) -> int:
    """Number of ids the model can embed; the tokenizer's size where only a tokenizer is at hand."""
    config = getattr(model, "cfg", None)
    return int(getattr(config, "d_vocab", 0) or len(model.tokenizer))


def check_length(model: Any, pair: TokenPair) -> None:
    """Raise UnfitPrompt where the model has no position for the last tokens.

    Warns once per model where it has one but was not made for it (rotary positions). A tokenizer
    alone has no limit.
    """
    limit, hard = _positions(model)
    n_pos = len(pair.clean_ids)
    if limit is None or n_pos <= limit:
        return
    if hard:
        raise UnfitPrompt(
            f"{label(pair)}: {n_pos} tokens, and the model has {limit} positions; "
            "shorten the prompt",
            "prompt too long",
        )
    if not getattr(model, "hvp_warned_of_length", False):
        model.hvp_warned_of_length = True
        warnings.warn(
            f"{label(pair)}: {n_pos} tokens are more than the {limit} positions that the model "
            "was made for (max_position_embeddings); its outputs there mean little",
            stacklevel=4,
        )


def _positions(model: Any) -> tuple[int | None, bool]:
    """How many positions the model takes (None: any number), and whether one more is an error."""
    found = getattr(model, "hvp_positions", None)  # of from_huggingface and load_model
    if found is not None:
        return found.limit, found.hard
    config = getattr(model, "cfg", None)
    learned = getattr(config, "positional_embedding_type", None) == "standard"
    return (int(config.n_ctx), True) if learned and config is not None else (None, False)
