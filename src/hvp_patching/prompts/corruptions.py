"""How a clean prompt becomes a corrupted one, by name (section 4.1, appendix E)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import replace
from functools import lru_cache
from typing import Any

from hvp_patching.failures import shown
from hvp_patching.prompts.entity_swap import relation
from hvp_patching.prompts.ioi import names
from hvp_patching.prompts.multiple_choice import with_other_letters
from hvp_patching.prompts.pair import (
    ZERO_CORRUPTION,
    PromptError,
    PromptPair,
    TokenizerCarrier,
    TokenPair,
    UnfitPrompt,
    as_token_pair,
    bos_ids,
    encode,
    foil_ids,
    label,
    prompt_ids,
    target_ids,
)
from hvp_patching.prompts.seeded import draw
from hvp_patching.prompts.task import Donors

RANDOM_POSITION = 3
# One token is what the other corruptions change; an entity swap is to change more (appendix E.4).
ENTITY_TOKENS = 2


def _repeated_subject(pair: PromptPair) -> tuple[str, int]:
    """The name that stands twice in the prompt, and where its second place starts (characters)."""
    words = [(match[0], match.start()) for match in re.finditer(r"\b[A-Z]\w+", pair.clean)]
    counts = Counter(word for word, _ in words)
    repeated = sorted(word for word, count in counts.items() if count == 2)
    indirect_object = pair.target.strip() if isinstance(pair.target, str) else ""
    if len(repeated) != 1 or counts[indirect_object] != 1:
        raise UnfitPrompt(
            f"{label(pair)}: a name swap needs one name twice and the target's name once; twice "
            f"stand {repeated}, and the target {pair.target!r} {counts[indirect_object]} times",
            "no repeated subject",
        )
    return repeated[0], [start for word, start in words if word == repeated[0]][1]


def _rename_second_subject(pair: PromptPair, name: str) -> PromptPair:
    subject, start = _repeated_subject(pair)
    end = start + len(subject)
    corrupted = pair.clean[:start] + name + pair.clean[end:]
    return replace(pair, corrupted=corrupted, foil=f" {subject}")


def name_swap(model: TokenizerCarrier, pair: PromptPair, seed: int = 0) -> PromptPair:
    """Put the indirect object in the subject's second place: "…, John gave" → "…, Mary gave".

    The foil is the subject, which is right there. Raises UnfitPrompt where not exactly one name is
    repeated; `seed` changes nothing.
    """
    return _rename_second_subject(pair, str(pair.target).strip())


def abc(model: TokenizerCarrier, pair: PromptPair, seed: int = 0) -> PromptPair:
    """Put a third name in the subject's second place: "…, John gave" → "…, Anna gave".

    The foil is the subject. Drawn per prompt from (seed, prompt_id). Raises UnfitPrompt as
    `name_swap` does.
    """
    words = set(re.findall(r"\w+", pair.clean))
    others = [name for name in names() if name not in words]
    key = pair.prompt_id or pair.clean
    if not others:
        raise UnfitPrompt(
            f"{label(pair)}: every name of ioi.yaml stands in it; add a third one", "no third name"
        )
    return _rename_second_subject(pair, others[draw(len(others), seed, key, "third name")])


def random_token(
    model: TokenizerCarrier, pair: PromptPair, seed: int = 0, position: int = RANDOM_POSITION
) -> TokenPair:
    """Put another token at `position` (0-based after any BOS).

    Uniform over the vocabulary without special tokens; drawn per prompt from (seed, prompt_id,
    position), so that neither order nor number of prompts matters. Raises UnfitPrompt where the
    prompt has no token there.
    """
    if isinstance(position, bool) or not isinstance(position, int) or position < 0:
        raise PromptError(
            f"random_token: position {shown(position)} is not a whole number from 0 on"
        )
    bos = bos_ids(model)
    clean = prompt_ids(model, pair, "clean", pair.clean)[len(bos) :]
    if position >= len(clean):
        raise UnfitPrompt(
            f"{label(pair)}: the prompt has {len(clean)} tokens, so there is none at position "
            f"{position} (0-based) to replace; use a longer prompt or another position",
            "prompt too short",
        )
    key = (seed, pair.prompt_id or pair.clean, position)
    token = drawn_token(model, {clean[position]}, key)
    corrupted = (*clean[:position], token, *clean[position + 1 :])
    tokens = TokenPair(
        bos + clean,
        bos + corrupted,
        target_ids(model, pair),
        pair.prompt_id,
        foil_ids=foil_ids(model, pair),
    )
    return as_token_pair(model, tokens)


def special_tokens(model: TokenizerCarrier) -> frozenset[int]:
    """Ids never drawn: BOS and its like, and added tokens marked special (Gemma's <unused…>)."""
    return _special_tokens(model.tokenizer, len(model.tokenizer))


# The size is part of the key because a tokenizer can be given more tokens later.
@lru_cache(maxsize=8)
def _special_tokens(tokenizer: Any, size: int) -> frozenset[int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    marked = {token for token, entry in added.items() if entry.special}
    return frozenset(marked | set(tokenizer.all_special_ids))


def drawn_token(model: TokenizerCarrier, but: Set[int], key: tuple[object, ...]) -> int:
    """A token drawn by `key`, uniform over the vocabulary but for special tokens and `but`.

    PromptError where that leaves none.
    """
    never = special_tokens(model) | but
    size = len(model.tokenizer)
    if len(never) >= size:
        tokens = " and ".join(map(str, sorted(but)))
        raise PromptError(f"the tokenizer's {size} tokens leave none beside {tokens}")
    # Rejection keeps the draw uniform without listing the vocabulary.
    attempt = 0
    while True:
        found = draw(size, *key, attempt)
        known = model.tokenizer.convert_ids_to_tokens(found) is not None
        if known and found not in never:
            return found
        attempt += 1


def resample(
    model: TokenizerCarrier, pair: PromptPair, seed: int = 0, donors: Donors | None = None
) -> PromptPair:
    """Take another prompt as it is: as many tokens, another answer (appendix E.3).

    Drawn per prompt from (seed, prompt_id), uniform over the donors that suit. Raises UnfitPrompt
    where none does.
    """
    donor = _donor(model, pair, ("resample", seed), donors, lambda donor: True)
    return replace(pair, corrupted=donor.clean)


def entity_swap(
    model: TokenizerCarrier, pair: PromptPair, seed: int = 0, donors: Donors | None = None
) -> PromptPair:
    """Put another entity of the same relation in the prompt: two tokens or more change.

    "The Eiffel Tower is located in …" → "The Colosseum is located in …" (appendix E.4). Drawn as
    `resample` draws. Raises UnfitPrompt where no other entity has as many tokens.
    """
    clean, wanted = encode(model, pair.clean), relation(pair)

    def suits(donor: PromptPair) -> bool:
        if relation(donor) != wanted:
            return False
        changed = zip(clean, encode(model, donor.clean), strict=True)
        return sum(a != b for a, b in changed) >= ENTITY_TOKENS

    donor = _donor(model, pair, ("entity_swap", seed), donors, suits)
    return replace(pair, corrupted=donor.clean)


def other_letters(model: TokenizerCarrier, pair: PromptPair, seed: int = 0) -> PromptPair:
    """Put other letters before the choices: "A. red … B. blue" → "Q. red … F. blue".

    The foil is the letter that is right there. Drawn per prompt from (seed, prompt_id). Raises
    UnfitPrompt for a text that is no multiple choice.
    """
    return with_other_letters(pair, seed)


def other_sum(
    model: TokenizerCarrier, pair: PromptPair, seed: int = 0, donors: Donors | None = None
) -> PromptPair:
    """Put other numbers into an addition whose sum differs from the target on: "18+46" → "12+25".

    The foil is what is right there. Drawn as `resample` draws. Raises UnfitPrompt where no other
    addition has as many tokens.
    """
    donor = _donor(model, pair, ("other_sum", seed), donors, lambda donor: True)
    return replace(pair, corrupted=donor.clean, foil=donor.target)


def _donor(
    model: TokenizerCarrier,
    pair: PromptPair,
    key: tuple[str, int],
    donors: Donors | None,
    suits: Callable[[PromptPair], bool],
) -> PromptPair:
    """The first drawn donor of equal length and other answer."""
    if donors is None:
        raise PromptError(
            f"{label(pair)}: the corruption {key[0]!r} takes another prompt's run; give "
            "donors=Donors([…]), or make the list with hvp_patching.prompts.build"
        )
    n_tokens = len(encode(model, pair.clean))
    for donor in donors.drawn(*key, pair.prompt_id or pair.clean):
        if (
            donor.target != pair.target
            and len(encode(model, donor.clean)) == n_tokens
            and suits(donor)
        ):
            return donor
    raise UnfitPrompt(
        f"{label(pair)}: none of the {len(donors.candidates)} prompts that could take its place "
        f"suits, with {n_tokens} tokens and another answer; leave it out or add such a prompt",
        "no prompt to take its place",
    )


def zero(model: TokenizerCarrier, pair: PromptPair, seed: int = 0) -> TokenPair:
    """Keep the prompt: the activation that is patched in is zero everywhere (appendix E.3)."""
    clean, target = prompt_ids(model, pair, "clean", pair.clean), target_ids(model, pair)
    return as_token_pair(
        model,
        TokenPair(clean, clean, target, pair.prompt_id, ZERO_CORRUPTION, foil_ids(model, pair)),
    )


CORRUPTIONS: dict[str, Callable[..., PromptPair | TokenPair]] = {
    "name_swap": name_swap,
    "abc": abc,
    "random_token": random_token,
    "resample": resample,
    "zero": zero,
    "entity_swap": entity_swap,
    "other_letters": other_letters,
    "other_sum": other_sum,
}
# Those that take another prompt's run, given as their keyword argument `donors`.
NEED_DONORS = ("resample", "entity_swap", "other_sum")
OPTIONS: dict[str, tuple[str, ...]] = {"random_token": ("position",)}


def check_corruption(name: str, known: tuple[str, ...] | None = None) -> None:
    """Raise PromptError unless `name` is among `known` (default: every corruption)."""
    known = tuple(CORRUPTIONS) if known is None else known
    if name not in known:
        raise PromptError(f"unknown corruption {name!r}; known: {', '.join(known)}")


def corrupt(
    model: TokenizerCarrier, pair: PromptPair, name: str, seed: int = 0, **options: Any
) -> TokenPair:
    """The checked token pair of `pair` under the corruption called `name`.

    Those of NEED_DONORS take `donors`, the prompts to draw from. Raises PromptError on an unknown
    name or a pair that does not fit this tokenizer.
    """
    check_corruption(name)
    corrupted = CORRUPTIONS[name](model, pair, seed, **options)
    return replace(as_token_pair(model, corrupted), corruption=name)
