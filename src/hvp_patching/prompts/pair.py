"""A clean and a corrupted prompt, as text or as token ids, made ready for a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hvp_patching.prompts.checks import check_ids, check_length, vocabulary_size
from hvp_patching.prompts.forms import (
    ZERO_CORRUPTION,
    Pair,
    PromptError,
    PromptPair,
    TokenizerCarrier,
    TokenPair,
    UnfitPrompt,
    label,
)
from hvp_patching.prompts.texts import (
    bos_ids,
    check_unicode,
    decode,
    encode,
    foil_ids,
    pieces,
    prompt_ids,
    target_ids,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ZERO_CORRUPTION",
    "PromptError",
    "PromptPair",
    "TokenPair",
    "TokenizerCarrier",
    "UnfitPrompt",
    "as_pair",
    "as_token_pair",
    "as_token_pairs",
    "bos_ids",
    "check_ids",
    "decode",
    "encode",
    "foil_ids",
    "label",
    "pieces",
    "prompt_ids",
    "target_ids",
    "tokenize",
    "vocabulary_size",
]
PLAIN = "PromptPair(clean, corrupted, target), TokenPair(clean_ids, corrupted_ids, target_ids)"


def as_pair(pair: Pair | Sequence[Any]) -> Pair:
    """The pair itself, or a tuple in the order of its fields (texts, or ids) as one.

    Raises PromptError for anything whose meaning is not plain.
    """
    if isinstance(pair, PromptPair | TokenPair):
        return pair
    if isinstance(pair, tuple | list) and 3 <= len(pair) <= 4:
        texts = [isinstance(side, str) for side in pair[:2]]
        if all(texts):
            return PromptPair(*pair)
        if not any(texts) and all(isinstance(side, Iterable) for side in pair[:2]):
            return TokenPair(*pair)
    said = repr(pair)
    raise PromptError(
        f"{said[:80]}{'…' * (len(said) > 80)} is no prompt pair; give {PLAIN}, or a tuple of these"
    )


def as_token_pair(model: TokenizerCarrier, pair: Pair | Sequence[Any]) -> TokenPair:
    """Tokenise a text pair, or take a tokenised one, and check it.

    Text is tokenised without special tokens; BOS is prepended iff `model.hvp_spec.prepend_bos`,
    and once: a text that begins with it keeps one, one further on is refused. A plain tuple
    (clean, corrupted, target) is taken as a pair. A pair without prompt_id gets one made from its
    ids. Raises PromptError (a ValueError) that names the prompt and the two values that disagree.
    """
    pair = as_pair(pair)
    tokens = pair if isinstance(pair, TokenPair) else _tokenised(model, pair)
    tokens = check_ids(tokens, vocabulary_size(model))
    check_length(model, tokens)
    return replace(tokens, prompt_id=_identified(pair, tokens))


def _tokenised(model: TokenizerCarrier, pair: PromptPair) -> TokenPair:
    if pair.corrupted is None:
        raise UnfitPrompt(
            f"{label(pair)}: it has no corrupted text; give PromptPair(corrupted=…), "
            "or apply one with hvp_patching.prompts.corrupt",
            "no corrupted prompt",
        )
    return TokenPair(
        clean_ids=prompt_ids(model, pair, "clean", pair.clean),
        corrupted_ids=prompt_ids(model, pair, "corrupted", pair.corrupted),
        target_ids=target_ids(model, pair),
        prompt_id=pair.prompt_id or pair.clean[:60],
        foil_ids=foil_ids(model, pair),
    )


def _identified(pair: Pair, tokens: TokenPair) -> str:
    """The pair's own id as text, else one made from what it holds: the same on any machine."""
    if pair.prompt_id is not None and pair.prompt_id != "":
        check_unicode(str(pair.prompt_id))
        return str(pair.prompt_id)
    content = [tokens.clean_ids, tokens.corrupted_ids, tokens.target_ids, tokens.corruption]
    content += [tokens.foil_ids] if tokens.foil_ids else []  # ids of pairs without one stay
    return "prompt-" + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]


def as_token_pairs(
    model: TokenizerCarrier, pairs: Pair | Sequence[Any] | Iterable[Any]
) -> list[TokenPair]:
    """The checked token pairs of a list, a generator or one single pair, each with its own id.

    A pair that stands twice is numbered. Raises PromptError as `as_token_pair` does, and where
    two different pairs have one prompt_id.
    """
    single = isinstance(pairs, PromptPair | TokenPair) or (
        isinstance(pairs, tuple | list) and bool(pairs) and isinstance(pairs[0], str)
    )
    if not single and not isinstance(pairs, Iterable):
        raise PromptError(f"{pairs!r} is no list of prompt pairs; give a list of {PLAIN}")
    listed: Iterable[Any] = [pairs] if single else pairs  # type: ignore[assignment]
    found: dict[str, TokenPair] = {}
    seen: dict[str, int] = {}
    for pair in listed:
        tokens = as_token_pair(model, pair)
        first = found.get(tokens.prompt_id)
        if first is not None and first != tokens:
            raise PromptError(
                f"prompt_id {tokens.prompt_id!r} stands for two different pairs; "
                "give each its own, or none"
            )
        count = seen[tokens.prompt_id] = seen.get(tokens.prompt_id, 0) + 1
        name = tokens.prompt_id if count == 1 else f"{tokens.prompt_id}-{count}"
        found[name] = replace(tokens, prompt_id=name)
    return list(found.values())


def tokenize(
    model: TokenizerCarrier, pair: Pair | Sequence[Any]
) -> tuple[Tensor, Tensor, int | tuple[int, ...]]:
    """Clean ids, corrupted ids (LongTensor [1, n_pos] each, on the CPU) and the target's id or ids.

    Raises PromptError as `as_token_pair` does.
    """
    # Imported here so that validating prompts does not load torch.
    import torch

    tokens = as_token_pair(model, pair)
    target = tokens.target_ids[0] if len(tokens.target_ids) == 1 else tokens.target_ids
    clean, corrupted = (torch.tensor([ids]) for ids in (tokens.clean_ids, tokens.corrupted_ids))
    return clean, corrupted, target
