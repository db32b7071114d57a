"""Multiple choice in the benchmark's form: a question, lettered choices, "Answer:" (appendix E.6).

The answer is the right choice's letter. The counterfactual is the same question with other letters,
so that its right letter is the foil.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hvp_patching.prompts.pair import PromptPair, UnfitPrompt, label
from hvp_patching.prompts.seeded import draw

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CHOICES = re.compile(r"((?:\n[A-Z]\. [^\n]+){2,})\nAnswer:$")
_CHOICE = re.compile(r"\n([A-Z])\. ([^\n]+)")


@dataclass(frozen=True)
class Question:
    """A question's text, its choices in order, and the number of the right one."""

    text: str
    choices: tuple[str, ...]
    right: int

    def pair(self, prompt_id: str, letters: str = LETTERS) -> PromptPair:
        """As a prompt whose target is the letter of the right choice."""
        return PromptPair(
            f"Question: {self.text}{_lettered(self.choices, letters)}\nAnswer:",
            target=f" {letters[self.right]}",
            prompt_id=prompt_id,
        )


def placed(text: str, right: str, wrong: Sequence[str], *key: object) -> Question:
    """The question with the right answer among the wrong ones, at a place drawn from the key."""
    place = draw(len(wrong) + 1, *key, "place")
    return Question(text, (*wrong[:place], right, *wrong[place:]), place)


def letters_of(pair: PromptPair) -> tuple[str, ...]:
    """The letters of the choices with the space before them, as answers."""
    return tuple(f" {letter}" for letter, _ in _choices(pair))


def with_other_letters(pair: PromptPair, seed: int = 0) -> PromptPair:
    """The pair with a corrupted run in which other letters stand before the same choices.

    The foil is the letter that is right there. Drawn per prompt from (seed, prompt_id), among those
    that the prompt does not have. Raises UnfitPrompt for a text that is no multiple choice.
    """
    choices = _choices(pair)
    used = [letter for letter, _ in choices]
    pool = [letter for letter in LETTERS if letter not in used]
    if len(pool) < len(used):
        raise UnfitPrompt(
            f"{label(pair)}: {len(used)} choices leave {len(pool)} other letters; give fewer",
            "too many choices",
        )
    fresh: list[str] = []
    for letter in used:
        key = (seed, pair.prompt_id or pair.clean, "other letters", letter)
        fresh.append(pool.pop(draw(len(pool), *key)))
    new = dict(zip(used, fresh, strict=True))
    head = pair.clean[: _block(pair).start()]
    lines = _lettered([text for _, text in choices], "".join(fresh))
    foil = new[str(pair.target).strip()]
    return replace(pair, corrupted=f"{head}{lines}\nAnswer:", foil=f" {foil}")


def _lettered(choices: Sequence[str], letters: str) -> str:
    lines = zip(letters, choices, strict=False)  # the alphabet is longer
    return "".join(f"\n{letter}. {choice}" for letter, choice in lines)


def _block(pair: PromptPair) -> re.Match[str]:
    found = _CHOICES.search(pair.clean)
    if found is None:
        raise UnfitPrompt(
            f"{label(pair)}: the text does not end in lines 'A. …' and 'Answer:'; other letters "
            "need a multiple choice of two or more",
            "no multiple choice",
        )
    return found


def _choices(pair: PromptPair) -> list[tuple[str, str]]:
    """(letter, text) of every choice; UnfitPrompt unless the target is one of different letters."""
    found = [(match[1], match[2]) for match in _CHOICE.finditer(_block(pair)[1])]
    letters = [letter for letter, _ in found]
    if len(set(letters)) < len(letters) or str(pair.target).strip() not in letters:
        raise UnfitPrompt(
            f"{label(pair)}: the target {pair.target!r} must be one of the choices' letters, which "
            f"are {', '.join(letters)}, each once",
            "target is no choice",
        )
    return found
