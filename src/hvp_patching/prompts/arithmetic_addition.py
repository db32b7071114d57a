"""Addition of numbers of two digits after worked examples: "…18+46=" → "64" (appendix E.6).

The benchmark asks for answers of one token. Where a tokenizer has none, because it writes numbers
digit by digit, the target is the digit of the sum that first differs from the counterfactual's:
its tens digit, since the counterfactual is chosen so. The prompts' result says which it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from hvp_patching.prompts.data_files import read_lists
from hvp_patching.prompts.numbers import ONE_TOKEN, two_digit_numbers
from hvp_patching.prompts.pair import (
    PromptError,
    PromptPair,
    TokenizerCarrier,
    UnfitPrompt,
    encode,
    label,
    pieces,
)
from hvp_patching.prompts.seeded import shuffled
from hvp_patching.prompts.task import METRIC, Task, take

FILE = "arithmetic_addition.yaml"
SMALLEST, LARGEST = 10, 99  # of the numbers and of their sum: two digits each
_EXAMPLE = re.compile(r"(\d\d)\+(\d\d)=(\d\d)")
WHOLE, FIRST_DIGIT = "the sum", "the sum's first differing digit (tens)"


def candidates(seed: int = 0) -> Iterator[PromptPair]:
    """Every addition of two-digit numbers with a two-digit sum, in seeded order, target the sum.

    The examples of arithmetic_addition.yaml stand before each, and are asked of none. Raises
    PromptError for an example that is none.
    """
    examples = read_lists(FILE, ("examples",))["examples"]
    worked = {_worked(example) for example in examples}
    known = {
        f"arithmetic_addition-{a}-{b}": (a, b)
        for a in range(SMALLEST, LARGEST + 1 - SMALLEST)
        for b in range(SMALLEST, LARGEST + 1 - a)
        if (a, b) not in worked
    }
    before = "".join(f"{example}\n" for example in examples)
    for prompt_id in shuffled(known, seed):
        a, b = known[prompt_id]
        yield PromptPair(f"{before}{a}+{b}=", target=str(a + b), prompt_id=prompt_id)


def _worked(example: str) -> tuple[int, int]:
    match = _EXAMPLE.fullmatch(example)
    a, b, total = map(int, match.groups()) if match else (0, 0, 1)
    if a + b != total:
        raise PromptError(f"{FILE}: the example {example!r} is no addition, such as '12+35=47'")
    return a, b


def pairs(n: int | None, seed: int = 0) -> list[PromptPair]:
    """The first `n` prompts (None: all), not yet corrupted; PromptError where fewer exist.

    Their targets are whole sums, which `settle` fits to a tokenizer.
    """
    return take(TASK.name, candidates(seed), n)


def settle(model: TokenizerCarrier, pair: PromptPair) -> tuple[PromptPair, str]:
    """The pair with the sum, or its tens digit, as the target; and the metric's name.

    Raises UnfitPrompt where the tokenizer writes numbers otherwise, or the sum would not follow the
    prompt as tokens of its own.
    """
    total = str(pair.target)
    convention = two_digit_numbers(model, pair, "addition")
    prompt, answer = encode(model, pair.clean), encode(model, total)
    if encode(model, pair.clean + total) != prompt + answer:
        raise UnfitPrompt(
            f"{label(pair)}: with {total!r} appended the text does not end in "
            f"{pieces(model, (*prompt[-1:], *answer))}; the sum must not merge with the prompt",
            "target merges with the prompt",
        )
    if convention == ONE_TOKEN:
        return pair, f"{METRIC}: {WHOLE}"
    return replace(pair, target=total[0]), f"{METRIC}: {FIRST_DIGIT}"


TASK = Task("arithmetic_addition", candidates, ("other_sum", "resample", "zero"), settle)
