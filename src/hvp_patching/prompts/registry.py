"""The tasks by name; a new one is its module and one line here."""

from __future__ import annotations

from hvp_patching.prompts import (
    arc_easy,
    arithmetic_addition,
    entity_swap,
    factual,
    greater_than,
    ioi,
    mcqa,
)
from hvp_patching.prompts.data_files import data_folder
from hvp_patching.prompts.pair import PromptError
from hvp_patching.prompts.task import Task

TASKS: dict[str, Task] = {
    "ioi": ioi.TASK,
    "greater_than": greater_than.TASK,
    "factual": factual.TASK,
    "entity_swap": entity_swap.TASK,
    "mcqa": mcqa.TASK,
    "arithmetic_addition": arithmetic_addition.TASK,
    "arc_easy": arc_easy.TASK,
}


def get_task(name: str) -> Task:
    """The task called `name`; PromptError listing the known ones otherwise."""
    if name not in TASKS:
        raise PromptError(f"unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]


def not_run(name: str, profile: str) -> str:
    """Why a profile does not have this task, in one line; "" where it does.

    A copy of the task's file in data/prompts makes any profile have it. PromptError as `get_task`.
    """
    task = get_task(name)
    if not task.profiles or profile in task.profiles or any(data_folder().glob(f"{name}.*")):
        return ""
    return f"not run in the profile {profile}: {task.elsewhere}"
