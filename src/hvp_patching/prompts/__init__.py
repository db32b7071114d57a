"""Prompt pairs as text and tokens, the tasks that make them, corruptions, and validated lists."""

from __future__ import annotations

from .corruptions import CORRUPTIONS, NEED_DONORS, corrupt
from .data_files import data_folder
from .pair import (
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
from .registry import TASKS, get_task
from .task import Donors, Task
from .validation import build, read_prompts, write_prompts

__all__ = [
    "CORRUPTIONS",
    "NEED_DONORS",
    "TASKS",
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
    "read_prompts",
    "tokenize",
    "write_prompts",
]
