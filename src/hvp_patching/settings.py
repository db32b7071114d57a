"""A setting: a model on a task, under the task's usual corruption or another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KEY = ("model", "task", "corruption")  # the columns that name a setting in a table


@dataclass(frozen=True)
class Setting:
    """A model and a task; ``corruption`` is empty where it is the task's usual one."""

    model: str
    task: str
    corruption: str = ""

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Setting of 'model/task' or 'model/task/corruption'; ``ValueError`` for anything else."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts):
            raise ValueError(f"'{text}' is no setting: write it as model/task")
        return cls(*parts)

    def __str__(self) -> str:
        """As it is written in a configuration, and parsed again."""
        return "/".join(part for part in (self.model, self.task, self.corruption) if part)


def only_setting(settings: Sequence[Setting], what: str) -> Setting:
    """The one setting of what shows one; ``ValueError`` naming them where they differ."""
    different = list(dict.fromkeys(settings))
    if len(different) != 1:
        named = ", ".join(map(str, different)) or "none"
        raise ValueError(f"{what} shows one model and task, got {named}: configure one")
    return different[0]
