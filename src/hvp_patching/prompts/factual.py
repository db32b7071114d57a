"""Factual completion: "The capital of France is the city of" → " Paris" (section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator

from hvp_patching.prompts.data_files import read_table
from hvp_patching.prompts.pair import PromptError, PromptPair
from hvp_patching.prompts.seeded import digest, shuffled
from hvp_patching.prompts.task import Task, take

FILE = "factual.csv"
COLUMNS = ("prompt", "answer", "relation")


def candidates(seed: int = 0) -> Iterator[PromptPair]:
    """Every fact of factual.csv once, in seeded order; an id depends on its prompt, not its row."""
    facts: dict[str, dict[str, str]] = {}
    for row in read_table(FILE, COLUMNS):
        prompt_id = f"factual-{row['relation']}-{digest(row['prompt']) % 16**6:06x}"
        if prompt_id in facts:
            raise PromptError(f"{FILE}: the prompt {row['prompt']!r} stands twice; remove one")
        facts[prompt_id] = row
    for prompt_id in shuffled(facts, seed):
        fact = facts[prompt_id]
        yield PromptPair(fact["prompt"], target=f" {fact['answer']}", prompt_id=prompt_id)


def pairs(n: int | None, seed: int = 0) -> list[PromptPair]:
    """The first `n` facts (None: all), not yet corrupted; PromptError where fewer exist."""
    return take(TASK.name, candidates(seed), n)


TASK = Task("factual", candidates, corruptions=("random_token", "resample", "zero"))
