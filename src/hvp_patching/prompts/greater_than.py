"""Greater-Than: "The war lasted from the year 1732 to the year 17" → any later year (section 4.1).

What "later" means in tokens depends on the tokenizer (the paper's footnote on Gemma): two-digit
years above XX where every two-digit string is one token, tens digits above X where digits are
single tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hvp_patching.failures import shown
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

FILE = "greater_than.yaml"
TEMPLATE = "The {noun} lasted from the year {century}{year:02d} to the year {century}"
# Only up to 98 is there a year above; a tokenizer of single digits keeps those below 90.
YEARS = range(2, 99)
TARGETS = ("set", "single")
TWO_DIGITS = "two-digit years above XX"
TENS = "tens digits above X"
_YEARS = re.compile(r"(\d\d)(\d\d) to the year (\d\d)$")


def candidates(seed: int = 0, centuries: Sequence[int] = (17,)) -> Iterator[PromptPair]:
    """Every noun with every year 02 to 98 in seeded order; the target is all two-digit years above.

    `centuries`: first two digits of the years, 17 in the paper. Raises PromptError on others than
    whole numbers from 10 to 20.
    """
    if not isinstance(centuries, list | tuple | range):
        raise PromptError(
            f"greater_than: centuries is {shown(centuries)}; give a list, such as [17]"
        )
    for century in centuries:
        if type(century) is not int or century not in range(10, 21):
            raise PromptError(
                f"task 'greater_than': century {shown(century)} is not among 10 to 20; give two "
                "digits"
            )
    years = {
        f"greater_than-{noun}-{century}{year:02d}": (noun, century, year)
        for noun in read_lists(FILE, ("nouns",))["nouns"]
        for century in centuries
        for year in YEARS
    }
    for prompt_id in shuffled(years, seed):
        noun, century, year = years[prompt_id]
        text = TEMPLATE.format(noun=noun, century=century, year=year)
        yield PromptPair(text, target=_two_digits_above(year), prompt_id=prompt_id)


def pairs(n: int | None, seed: int = 0, centuries: Sequence[int] = (17,)) -> list[PromptPair]:
    """The first `n` prompts (None: all), not yet corrupted; PromptError where fewer exist.

    Their targets are two-digit years, which `settle` fits to a tokenizer.
    """
    return take(TASK.name, candidates(seed, centuries), n)


def settle(
    model: TokenizerCarrier, pair: PromptPair, target: str = "set"
) -> tuple[PromptPair, str]:
    """The pair with the targets that this tokenizer has, and the metric's name.

    `target`: "set" (all that are above) or "single" (the next one only). Raises UnfitPrompt where
    the tokenizer splits the years otherwise or no tens digit is above X, PromptError on another
    `target`.
    """
    if target not in TARGETS:
        raise PromptError(
            f"unknown target {shown(target)} for greater_than; known: {', '.join(TARGETS)}"
        )
    year = _check_split(model, pair)
    convention = _convention(model, pair)
    targets = _two_digits_above(year) if convention == TWO_DIGITS else _tens_above(year)
    if not targets:
        raise UnfitPrompt(
            f"{label(pair)}: no tens digit is above the 9 of year {year}; use a year below 90",
            "no target above the year",
        )
    if target == "single":
        one = "XX+1" if convention == TWO_DIGITS else "tens digit X+1"
        return replace(pair, target=targets[0]), f"{METRIC}: {one}"
    name = f"log-probability mass of the target set: {convention}"
    return replace(pair, target=targets), name


def _two_digits_above(year: int) -> tuple[str, ...]:
    return tuple(f"{later:02d}" for later in range(year + 1, 100))


def _tens_above(year: int) -> tuple[str, ...]:
    return tuple(str(tens) for tens in range(year // 10 + 1, 10))


def _check_split(model: TokenizerCarrier, pair: PromptPair) -> int:
    """XX, once the tokens show that "17" is followed by XX in the prompt and by nothing at its end.

    A tokenizer that writes 1732 as 173 + 2 never puts a year's last two digits after "17": the
    prompt's end would ask for something else than the years above XX.
    """
    match = _YEARS.search(pair.clean)
    if match is None:
        raise UnfitPrompt(
            f"{label(pair)}: the text does not end in '17XX to the year 17'; follow {TEMPLATE!r}",
            "not a Greater-Than prompt",
        )
    before = encode(model, pair.clean[: match.start(1)].rstrip())
    to_century = encode(model, pair.clean[: match.end(1)])
    to_year = encode(model, pair.clean[: match.end(2)])
    century = to_century[len(before) :]
    whole = encode(model, pair.clean)
    split = (
        to_century == before + century
        and to_year == to_century + encode(model, match[2])
        and whole[: len(to_year)] == to_year
        and whole[-len(century) :] == century
    )
    if not split or not century:
        raise UnfitPrompt(
            f"{label(pair)}: the tokenizer splits the year as "
            f"{pieces(model, to_year[len(before) :])}, not as {match[1]!r} followed by "
            f"{match[2]!r}; leave this prompt out",
            "year not split after the century",
        )
    return int(match[2])


def _convention(model: TokenizerCarrier, pair: PromptPair) -> str:
    found = two_digit_numbers(model, pair, "Greater-Than")
    return TWO_DIGITS if found == ONE_TOKEN else TENS


TASK = Task(
    "greater_than",
    candidates,
    corruptions=("random_token", "resample", "zero"),
    settle=settle,
    candidate_options=("centuries",),
    settle_options=("target",),
)
