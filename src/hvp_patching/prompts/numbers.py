"""How a tokenizer writes numbers of two digits: as one token each, or digit by digit."""

from __future__ import annotations

from hvp_patching.prompts.pair import (
    PromptPair,
    TokenizerCarrier,
    UnfitPrompt,
    encode,
    label,
    pieces,
)

ONE_TOKEN, DIGITS = "one token", "single digits"


def two_digit_numbers(model: TokenizerCarrier, pair: PromptPair, task: str) -> str:
    """ONE_TOKEN or DIGITS; UnfitPrompt, naming the pair, where 00 to 99 are neither throughout.

    `task` is what needs one of the two, in words.
    """
    numbers = [f"{number:02d}" for number in range(100)]
    split = model.tokenizer(numbers, add_special_tokens=False)["input_ids"]
    if all(len(ids) == 1 for ids in split):
        return ONE_TOKEN
    digits = [encode(model, str(digit)) for digit in range(10)]
    if all(len(ids) == 1 for ids in digits) and all(
        tuple(ids) == digits[int(number[0])] + digits[int(number[1])]
        for number, ids in zip(numbers, split, strict=True)
    ):
        return DIGITS
    whole = sum(len(ids) == 1 for ids in split)
    several = next(ids for ids in split if len(ids) != 1)
    raise UnfitPrompt(
        f"{label(pair)}: the tokenizer keeps {whole} of the 100 strings 00 to 99 as one token and "
        f"splits others, such as {pieces(model, several)}; {task} needs all of them whole, "
        "or all split into single digits",
        "neither two-digit nor single-digit tokens",
    )
