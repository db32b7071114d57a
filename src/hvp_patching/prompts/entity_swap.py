"""Entity swap: "The Eiffel Tower is located in the city of" → " Paris" (appendix E.4).

The corrupted run is the same sentence about another entity, chosen by the corruption of this name,
since which entities have equally many tokens depends on the tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hvp_patching.failures import shown
from hvp_patching.prompts.data_files import read_table
from hvp_patching.prompts.pair import PromptError, PromptPair, UnfitPrompt, label
from hvp_patching.prompts.seeded import digest, shuffled
from hvp_patching.prompts.task import Task, take

FILE = "entity_swap.csv"
COLUMNS = ("relation", "template", "entity", "answer")
PLACE = "{entity}"
_ID = re.compile(r"entity_swap-(\w+)-[0-9a-f]{6}")


def candidates(seed: int = 0) -> Iterator[PromptPair]:
    """Every entity of entity_swap.csv once, in seeded order; an id depends on its prompt alone."""
    prompts: dict[str, PromptPair] = {}
    templates: dict[str, str] = {}
    for row in read_table(FILE, COLUMNS):
        if not re.fullmatch(r"\w+", row["relation"]):
            raise PromptError(
                f"{FILE}: the relation {shown(row['relation'])} stands in ids; use letters, digits "
                "and '_'"
            )
        template = templates.setdefault(row["relation"], row["template"])
        if row["template"] != template or template.count(PLACE) != 1:
            raise PromptError(
                f"{FILE}: the template {row['template']!r} of {row['entity']!r} must have "
                f"{PLACE} once and be that of its relation, {template!r}"
            )
        text = template.replace(PLACE, row["entity"])
        prompt_id = f"entity_swap-{row['relation']}-{digest(text) % 16**6:06x}"
        if prompt_id in prompts:
            raise PromptError(f"{FILE}: the prompt {text!r} stands twice; remove one")
        prompts[prompt_id] = PromptPair(text, target=f" {row['answer']}", prompt_id=prompt_id)
    for prompt_id in shuffled(prompts, seed):
        yield prompts[prompt_id]


def relation(pair: PromptPair) -> str:
    """What the prompt asks of its entity; UnfitPrompt where its id names no relation."""
    match = _ID.fullmatch(pair.prompt_id)
    if match is None:
        raise UnfitPrompt(
            f"{label(pair)}: an entity swap needs a prompt of the task entity_swap, whose id "
            f"names a relation, and this one's is {pair.prompt_id!r}",
            "no relation",
        )
    return match[1]


def pairs(n: int | None, seed: int = 0) -> list[PromptPair]:
    """The first `n` prompts (None: all), not yet corrupted; PromptError where fewer exist."""
    return take(TASK.name, candidates(seed), n)


TASK = Task("entity_swap", candidates, corruptions=("entity_swap", "resample", "zero"))
