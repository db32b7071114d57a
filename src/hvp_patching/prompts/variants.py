"""Prompt pairs that differ from another one in a single respect: the drawn token, BOS, a foil.

For the question where error floors could come from: what if the truth had been measured on a pair
like this one?
"""

from __future__ import annotations

import re
from dataclasses import replace

from hvp_patching.prompts.corruptions import drawn_token
from hvp_patching.prompts.pair import TokenizerCarrier, TokenPair, as_token_pair, decode
from hvp_patching.prompts.texts import token_set

DRAWN = "random_token"  # the corruption that one random token makes
NOT_DRAWN = ("name_swap", "zero")  # those that nothing random makes
_YEAR = re.compile(r"\d\d(\d\d) to the year \d\d$")


def redrawn(model: TokenizerCarrier, tokens: TokenPair, seed: int = 0) -> TokenPair:
    """The pair of a `random_token` corruption with another random token in the same place.

    Neither the clean token nor the first drawn one. Drawn per prompt from (seed, prompt_id).
    ValueError for a pair of another corruption.
    """
    if tokens.corruption != DRAWN:
        raise ValueError(f"a pair of the corruption '{tokens.corruption}' has no token to redraw")
    place = tokens.first_changed
    known = {tokens.clean_ids[place], tokens.corrupted_ids[place]}
    token = drawn_token(model, known, (seed, tokens.prompt_id, place, "drawn again"))
    corrupted = (*tokens.corrupted_ids[:place], token, *tokens.corrupted_ids[place + 1 :])
    return as_token_pair(model, replace(tokens, corrupted_ids=corrupted))


def with_other_start(model: TokenizerCarrier, tokens: TokenPair) -> TokenPair | None:
    """The pair without the BOS token in front where it has one, and with one where it has none.

    None where the tokenizer has no BOS token, or nothing is left without it.
    """
    bos = model.tokenizer.bos_token_id
    if bos is None:
        return None
    clean, corrupted = tokens.clean_ids, tokens.corrupted_ids
    if clean[0] == corrupted[0] == bos:
        clean, corrupted = clean[1:], corrupted[1:]
    else:
        clean, corrupted = (int(bos), *clean), (int(bos), *corrupted)
    if not clean:
        return None
    return as_token_pair(model, replace(tokens, clean_ids=clean, corrupted_ids=corrupted))


def foils(model: TokenizerCarrier, tokens: TokenPair) -> tuple[int, ...]:
    """What a logit difference sets against the target: () where the task has no such thing.

    The pair's own foil; in Greater-Than the years at or below XX, in the tokens of its targets.
    """
    if tokens.foil_ids:
        return tokens.foil_ids
    match = _YEAR.search(decode(model, tokens.clean_ids))
    widths = {len(model.tokenizer.decode([target]).strip()) for target in tokens.target_ids}
    if match is None or widths not in ({1}, {2}):
        return ()
    year = int(match[1])
    below = [f"{n:02d}" for n in range(year + 1)]
    texts = below if widths == {2} else [str(n) for n in range(year // 10 + 1)]
    return token_set(model, tokens, "foil", texts)
