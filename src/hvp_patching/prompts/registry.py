"""The tasks by name; a new one is its module and one line here."""

from __future__ import annotations

from hvp_patching.prompts import entity_swap, factual, greater_than, ioi
from hvp_patching.prompts.pair import PromptError
from hvp_patching.prompts.task import Task

TASKS: dict[str, Task] = {
    "ioi": ioi.TASK,
    "greater_than": greater_than.TASK,
    "factual": factual.TASK,
    "entity_swap": entity_swap.TASK,
}


def get_task(name: str) -> Task:
    """The task called `name`; PromptError listing the known ones otherwise."""
    if name not in TASKS:
        raise PromptError(f"unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]
