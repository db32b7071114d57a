"""Copy colours: "Boxes are brown. What color are boxes?", four choices → their letter (E.6)."""

from __future__ import annotations

from collections.abc import Iterator

from hvp_patching.prompts.data_files import read_lists
from hvp_patching.prompts.multiple_choice import letters_of, placed
from hvp_patching.prompts.pair import PromptError, PromptPair
from hvp_patching.prompts.seeded import digest, shuffled
from hvp_patching.prompts.task import Task, take

FILE = "mcqa.yaml"
WRONG = 3  # choices beside the right one


def candidates(seed: int = 0) -> Iterator[PromptPair]:
    """Every thing in every colour of mcqa.yaml once, in seeded order.

    A prompt's wrong colours and the right one's place depend on the prompt alone.
    """
    lists = read_lists(FILE, ("things", "colors"))
    colors = lists["colors"]
    if len(colors) <= WRONG:
        raise PromptError(f"{FILE}: {len(colors)} colors; give {WRONG + 1} at least")
    known = {
        f"mcqa-{thing}-{color}": (thing, color) for thing in lists["things"] for color in colors
    }
    for prompt_id in shuffled(known, seed):
        thing, color = known[prompt_id]
        wrong = sorted(set(colors) - {color}, key=lambda name: digest(prompt_id, name))
        text = f"{thing.capitalize()} are {color}. What color are {thing}?"
        yield placed(text, color, wrong[:WRONG], prompt_id).pair(prompt_id)


def pairs(n: int | None, seed: int = 0) -> list[PromptPair]:
    """The first `n` prompts (None: all), not yet corrupted; PromptError where fewer exist."""
    return take(TASK.name, candidates(seed), n)


TASK = Task("mcqa", candidates, ("other_letters", "resample", "zero"), choices=letters_of)
