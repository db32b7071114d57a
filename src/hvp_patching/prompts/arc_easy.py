"""ARC (Easy): science questions of four choices → the right one's letter (appendix E.6).

The questions are not ours (AI2, CC BY-SA 4.0) and not in this repository: they are read from the
Hub at a pinned commit, or from a copy of that file in data/prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hvp_patching.files import drop_damaged_blob
from hvp_patching.prompts.data_files import data_folder
from hvp_patching.prompts.multiple_choice import Question, letters_of
from hvp_patching.prompts.pair import PromptError, PromptPair
from hvp_patching.prompts.seeded import shuffled
from hvp_patching.prompts.task import Task, take

REPO = "allenai/ai2_arc"
REVISION = "210d026faf9955653af8916fad021475a3f00453"
HUB_FILE = "ARC-Easy/validation-00000-of-00001.parquet"
FILE = "arc_easy.parquet"  # a copy of it
COLUMNS = ["id", "question", "choices", "answerKey"]
CHOICES = 4  # a few questions have three or five


def candidates(seed: int = 0) -> Iterator[PromptPair]:
    """Every question of four choices once, in seeded order; PromptError where they cannot be had.

    The choices keep their order; their letters are A to D, which some questions number.
    """
    questions = dict(_questions(_file()))
    for prompt_id in shuffled(questions, seed):
        yield questions[prompt_id].pair(prompt_id)


def _questions(path: Path) -> Iterator[tuple[str, Question]]:
    import pandas as pd  # here, since other tasks need no second for it

    try:
        frame = pd.read_parquet(path, columns=COLUMNS)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise PromptError(
            f"{path} is not {HUB_FILE} of {REPO} ({first}); fetch it again"
        ) from error
    for row in frame.to_dict("records"):
        labels, texts = (list(row["choices"][key]) for key in ("label", "text"))
        if len(texts) == CHOICES and row["answerKey"] in labels:
            choices = tuple(_one_line(text) for text in texts)
            right = labels.index(row["answerKey"])
            yield f"arc_easy-{row['id']}", Question(_one_line(row["question"]), choices, right)


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


def _file() -> Path:
    local = data_folder() / FILE
    if local.is_file():
        return local
    from huggingface_hub import hf_hub_download

    try:
        found = Path(hf_hub_download(REPO, HUB_FILE, repo_type="dataset", revision=REVISION))
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PromptError(
            f"task 'arc_easy': {HUB_FILE} of {REPO} at {REVISION} could not be had from the Hub "
            f"({said.split('. ')[0][:200].rstrip('.')}); put a copy at {local}, or leave the task "
            "out"
        ) from error
    fault = drop_damaged_blob(found)
    if fault:
        raise PromptError(f"task 'arc_easy': a damaged download: {fault}")
    return found


def pairs(n: int | None, seed: int = 0) -> list[PromptPair]:
    """The first `n` questions (None: all), not yet corrupted; PromptError where fewer exist."""
    return take(TASK.name, candidates(seed), n)


TASK = Task(
    "arc_easy",
    candidates,
    ("other_letters", "resample", "zero"),
    choices=letters_of,
    profiles=("paper",),
    elsewhere=f"its questions are read from the Hub ({REPO}), which only the profile paper needs",
)
