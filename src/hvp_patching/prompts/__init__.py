"""Prompt pairs as text and tokens, the tasks that make them, corruptions, and validated lists."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hvp_patching.prompts.answers import Answer
from hvp_patching.prompts.corruptions import CORRUPTIONS, NEED_DONORS, corrupt
from hvp_patching.prompts.data_files import data_folder
from hvp_patching.prompts.pair import (
    PromptError,
    PromptPair,
    TokenizerCarrier,
    TokenPair,
    UnfitPrompt,
    as_token_pair,
    as_token_pairs,
    decode,
    tokenize,
)
from hvp_patching.prompts.registry import TASKS, get_task
from hvp_patching.prompts.task import Donors, Task

if TYPE_CHECKING:
    from hvp_patching.prompts.validation import build, read_answers, read_prompts, write_prompts

__all__ = [
    "CORRUPTIONS",
    "NEED_DONORS",
    "TASKS",
    "Answer",
    "Donors",
    "PromptError",
    "PromptPair",
    "Task",
    "TokenPair",
    "TokenizerCarrier",
    "UnfitPrompt",
    "as_token_pair",
    "as_token_pairs",
    "build",
    "corrupt",
    "data_folder",
    "decode",
    "get_task",
    "read_answers",
    "read_prompts",
    "tokenize",
    "write_prompts",
]

# Resolved on first use: the names of tasks are wanted without a second of importing pandas.
_LISTS = ("build", "read_answers", "read_prompts", "write_prompts")


def __getattr__(name: str) -> Any:
    if name in _LISTS:
        return getattr(importlib.import_module("hvp_patching.prompts.validation"), name)
    raise AttributeError(f"module 'hvp_patching.prompts' has no attribute '{name}'")
