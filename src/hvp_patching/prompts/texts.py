"""Text to token ids: once BOS, nothing unknown to the tokenizer, nothing lost on the way."""

from __future__ import annotations

import json
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hvp_patching.prompts.forms import (
    PromptError,
    PromptPair,
    TokenizerCarrier,
    TokenPair,
    UnfitPrompt,
    label,
)


def encode(model: TokenizerCarrier, text: str) -> tuple[int, ...]:
    """Token ids of `text` alone: no special token, no BOS.

    Raises PromptError where it is no text, no Unicode text, or there is no tokenizer.
    """
    if model.tokenizer is None:
        raise PromptError(
            "the model has no tokenizer, so it takes token ids only; give "
            "TokenPair(clean_ids, corrupted_ids, target_ids), or wrap the model with its tokenizer"
        )
    if not isinstance(text, str):
        raise PromptError(f"{text!r} is no text; give a str, or token ids in a TokenPair")
    check_unicode(text)
    return tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def check_unicode(text: str) -> None:
    """Raise PromptError where a text cannot be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the text {text[:60]!r} has the lone surrogate {text[error.start]!r} at character "
            f"{error.start}, which is no Unicode text; decode its source as UTF-8 or remove it"
        ) from error


def pieces(model: TokenizerCarrier, ids: Sequence[int]) -> str:
    """The texts of `ids` one by one, for an error message: `' Rey' + 'k' + 'javik'`."""
    return " + ".join(repr(model.tokenizer.decode([i])) for i in ids)


def bos_ids(model: TokenizerCarrier) -> tuple[int, ...]:
    """The BOS token as the model's spec asks for it: one id or none."""
    spec = getattr(model, "hvp_spec", None)
    if spec is None:
        raise PromptError(
            "the model carries no hvp_spec, which says whether a BOS token is prepended: "
            "load it with hvp_patching.load_model, or set model.hvp_spec to a ModelSpec",
        )
    if not spec.prepend_bos:
        return ()
    bos = model.tokenizer.bos_token_id
    if bos is None:
        raise PromptError(
            "the model's spec has prepend_bos=True but its tokenizer has no BOS token: "
            "set prepend_bos to False in the registry, or the tokenizer's bos_token",
        )
    return (int(bos),)


def decode(model: TokenizerCarrier, ids: Sequence[int]) -> str:
    """Text of `ids` for display, without the BOS that we prepended."""
    start = len(bos_ids(model))
    text = model.tokenizer.decode(list(ids)[start:], clean_up_tokenization_spaces=False)
    return str(text)


def prompt_ids(model: TokenizerCarrier, pair: PromptPair, side: str, text: str) -> tuple[int, ...]:
    """Token ids of one side of a pair, with the BOS token in front where the spec has one.

    A text that begins with the BOS token's own string keeps one, with a warning. Raises
    UnfitPrompt for an empty text, for a BOS token within it (the model would read two texts), and
    for what the tokenizer does not know or loses.
    """
    ids, bos = encode(model, text), bos_ids(model)
    if bos and ids[:1] == bos:
        warnings.warn(
            f"{label(pair)}: the {side} prompt begins with the BOS token "
            f"({model.tokenizer.decode(list(bos))!r}), which this model is given anyway; one is "
            "kept, remove it from the text",
            stacklevel=4,
        )
        ids = ids[1:]
    if not text.strip() or not ids:
        raise UnfitPrompt(
            f"{label(pair)}: the {side} prompt is empty ({text!r}); give at least one word",
            "empty prompt",
        )
    if bos and bos[0] in ids:
        raise UnfitPrompt(
            f"{label(pair)}: the {side} prompt has the BOS token "
            f"({model.tokenizer.decode(list(bos))!r}) at token {ids.index(bos[0]) + 1}, after the "
            "one this model is given at the start; remove it from the text",
            "BOS within the prompt",
        )
    _check_known(model, pair, f"the {side} prompt", text, ids)
    return bos + ids


def target_ids(model: TokenizerCarrier, pair: PromptPair) -> tuple[int, ...]:
    """One id per target, each a text or an id.

    PromptError where there is none, one splits or is unknown to the tokenizer, or two are one
    token.
    """
    return token_set(model, pair, "target", pair.target)


def foil_ids(model: TokenizerCarrier, pair: PromptPair) -> tuple[int, ...]:
    """One id per foil, none where the pair has no foil; PromptError as for targets."""
    return () if pair.foil is None else token_set(model, pair, "foil", pair.foil)


def token_set(
    model: TokenizerCarrier, pair: PromptPair | TokenPair, role: str, given: Any
) -> tuple[int, ...]:
    """The ids of one token or several, each a text or an id; `role` names them in errors.

    PromptError as in target_ids.
    """
    single = isinstance(given, str | int) or as_integer(given) is not None
    if not single and not isinstance(given, list | tuple | set | frozenset):
        raise PromptError(
            f"{label(pair)}: the {role} {given!r} is neither a token's text, nor its id, nor "
            "several of them in a list; give one token's text with its leading space"
        )
    wanted: list[Any] = [given] if single else list(given)
    if isinstance(given, set | frozenset):
        wanted.sort(key=repr)
    if not wanted or any(isinstance(one, str) and not one for one in wanted):
        raise UnfitPrompt(
            f"{label(pair)}: the {role} is empty ({given!r}); "
            "give one token's text with its leading space, such as ' Mary'",
            f"empty {role}",
        )
    found: dict[int, Any] = {}
    for one in wanted:
        token = _token_id(model, pair, role, one)
        if token in found:
            raise UnfitPrompt(
                f"{label(pair)}: {role}s {found[token]!r} and {one!r} are the same token "
                f"({token}); a {role} set names each token once",
                f"{role} set repeats a token",
            )
        found[token] = one
    return tuple(found)


def _token_id(model: TokenizerCarrier, pair: PromptPair | TokenPair, role: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, str):
        number = None if isinstance(given, bool) else as_integer(given)
        if number is None:
            raise PromptError(
                f"{label(pair)}: the {role} {given!r} is neither a token's text nor its id"
                "; give one token's text with its leading space, or a whole number"
            )
        return number
    ids = encode(model, given)
    if len(ids) != 1:
        raise UnfitPrompt(
            f"{label(pair)}: {role} {given!r} is {len(ids)} tokens ({pieces(model, ids)}); "
            f"choose a {role} that this tokenizer keeps as one token",
            f"{role} is several tokens",
        )
    _check_known(model, pair, f"the {role}", given, ids)
    return ids[0]


def as_integer(value: Any) -> int | None:
    """A whole number of Python, numpy or torch as an int; None for anything else, bool included."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) in {"bool", "torch.bool"}:
        return None
    try:
        return int(value.__index__())
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None


def _check_known(
    model: TokenizerCarrier,
    pair: PromptPair | TokenPair,
    what: str,
    text: str,
    ids: tuple[int, ...],
) -> None:
    """Raise UnfitPrompt where the ids hold the unknown token, or less than the text."""
    tokenizer = model.tokenizer
    unknown = _unknown_id(tokenizer)
    if unknown is not None and unknown in ids:
        token = str(tokenizer.convert_ids_to_tokens(unknown))
        if ids.count(unknown) > text.count(token):  # spelt out, it is meant
            raise UnfitPrompt(
                f"{label(pair)}: {what} ({text!r}) has {_unknown_part(tokenizer, text, unknown)} "
                f"that this tokenizer does not know and reads as {token!r}; use other words",
                "text unknown to the tokenizer",
            )
    lost = _lost(tokenizer, text, ids)
    if lost:
        raise UnfitPrompt(
            f"{label(pair)}: {what} ({text!r}) loses {lost!r} in this tokenizer, which has no "
            "token for it; use other words",
            "text lost in the tokenizer",
        )


@lru_cache(maxsize=8)
def _unknown_id(tokenizer: Any) -> int | None:
    """The id that stands for what is not in the vocabulary; None where there is none."""
    known = getattr(tokenizer, "unk_token_id", None)
    if known is not None:
        return int(known)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    own = getattr(backend.model, "unk_token", None)
    if own is not None:
        number = backend.token_to_id(own)
        return None if number is None else int(number)
    if type(backend.model).__name__ != "Unigram":
        return None
    number = json.loads(backend.to_str())["model"].get("unk_id")
    return None if number is None else int(number)


def _unknown_part(tokenizer: Any, text: str, unknown: int) -> str:
    if not getattr(tokenizer, "is_fast", False):
        return "something"
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(found["input_ids"], found["offset_mapping"], strict=True)
    start, end = next(span for token, span in spans if token == unknown)
    return repr(text[start:end])


def _lost(tokenizer: Any, text: str, ids: tuple[int, ...]) -> str:
    """The characters that no token stands for; case, accents and spaces may be normalised."""
    if not hasattr(tokenizer, "decode"):  # ids without their texts
        return ""
    back = str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
    if back == text:
        return ""
    gone = Counter(_folded(text)) - Counter(_folded(back))
    suspects = dict.fromkeys(letter for letter in text if set(_folded(letter)) & gone.keys())
    return "".join(letter for letter in suspects if not _folded(_there_and_back(tokenizer, letter)))


def _there_and_back(tokenizer: Any, text: str) -> str:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)) if ids else ""


def _folded(text: str) -> str:
    """Without spaces, case and compatibility forms."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
