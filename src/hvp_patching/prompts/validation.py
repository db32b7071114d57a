"""The validated prompt list of a model, a task and a corruption: built, written and read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from hvp_patching.files import whole
from hvp_patching.prompts.answers import Answer
from hvp_patching.prompts.corruptions import CORRUPTIONS, NEED_DONORS, OPTIONS, check_corruption
from hvp_patching.prompts.pair import (
    PromptError,
    PromptPair,
    TokenizerCarrier,
    TokenPair,
    UnfitPrompt,
    as_token_pair,
    check_ids,
    decode,
    encode,
)
from hvp_patching.prompts.registry import get_task
from hvp_patching.prompts.task import Donors, Task, check_count
from hvp_patching.prompts.texts import token_set

_IDS = pa.list_(pa.int64())
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("clean", pa.string()),
        ("corrupted", pa.string()),
        ("clean_ids", _IDS),
        ("corrupted_ids", _IDS),
        ("target_ids", _IDS),
        ("target", pa.string()),
        ("n_pos", pa.int64()),
        ("first_changed", pa.int64()),
        ("metric", pa.string()),
        ("foil", pa.string()),
        ("foil_ids", _IDS),
        ("answer_ids", _IDS),
        ("choice_ids", _IDS),
    ]
)
REPORT_COLUMNS = ["prompt_id", "prompt", "reason"]
TARGET_SEPARATOR = "|"


def build(
    model: TokenizerCarrier,
    task: str,
    corruption: str,
    n: int,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first `n` prompts of `task` that fit the tokenizer, and a report of those dropped.

    The first frame has the columns of results/prompts/…; asking for one more adds one row.
    `foil_ids`: what logit_difference sets against the target, where the corruption says it.
    `answer_ids`: the whole answer, where the target is only its first token. `choice_ids`: among
    which an answer is judged, empty for the whole vocabulary.
    `options`: those of the task (greater_than: target, centuries) and of its corruptions
    (random_token: position); an option of another corruption than this one changes nothing.
    Raises PromptError on unknown names, n < 1, or too few left.
    """
    source = get_task(task)
    if corruption not in source.corruptions:
        check_corruption(corruption)
        raise PromptError(
            f"corruption {corruption!r} does not suit task {task!r}; "
            f"known for it: {', '.join(source.corruptions)}"
        )
    if n is None:
        raise PromptError(f"task {task!r}: the number of prompts is missing; ask for at least 1")
    check_count(task, n)
    for_source, for_settling, for_corruption = _split_options(source, corruption, options or {})

    @cache
    def settle(pair: PromptPair) -> tuple[PromptPair, str]:
        return source.settle(model, pair, **for_settling)

    candidates: Iterable[PromptPair] = source.candidates(seed, **for_source)
    if corruption in NEED_DONORS:
        candidates = list(candidates)
        for_corruption["donors"] = Donors(candidates, lambda pair: settle(pair)[0])
    kept: list[dict[str, Any]] = []
    dropped: list[tuple[PromptPair, UnfitPrompt]] = []
    for pair in candidates:
        try:
            settled, metric = settle(pair)
            changed = CORRUPTIONS[corruption](model, settled, seed, **for_corruption)
            answer = pair.target if pair.target != settled.target else None
            choices = source.choices(settled)
            kept.append(_row(model, settled, changed, metric, answer, choices))
        except UnfitPrompt as error:
            dropped.append((pair, error))
        if len(kept) == n:
            break
    if len(kept) < n:
        raise _too_few(task, n, len(kept), [error for _, error in dropped])
    frame = pd.DataFrame(kept, columns=SCHEMA.names)
    frame.attrs = {"task": task, "corruption": corruption, "seed": seed}
    report = [(pair.prompt_id, pair.clean, str(error)) for pair, error in dropped]
    return frame, pd.DataFrame(report, columns=REPORT_COLUMNS)


def _split_options(
    source: Task, corruption: str, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    groups = (source.candidate_options, source.settle_options, OPTIONS.get(corruption, ()))
    # One configured task serves all its corruptions, so that theirs are known here too.
    others = [OPTIONS.get(name, ()) for name in source.corruptions]
    known = sorted({name for group in (*groups, *others) for name in group})
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise PromptError(
            f"unknown option {unknown[0]!r} for task {source.name!r} with {corruption!r}; "
            f"known: {', '.join(known) or 'none'}"
        )
    first, second, third = ({k: options[k] for k in group if k in options} for group in groups)
    return first, second, third


def _row(
    model: TokenizerCarrier,
    pair: PromptPair,
    changed: PromptPair | TokenPair,
    metric: str,
    answer: Any,
    choices: tuple[str, ...],
) -> dict[str, Any]:
    tokens = as_token_pair(model, changed)
    text = changed.corrupted if isinstance(changed, PromptPair) else None
    targets = [pair.target] if isinstance(pair.target, str | int) else pair.target
    judged = token_set(model, pair, "choice", choices) if choices else ()
    return {
        "prompt_id": pair.prompt_id,
        "clean": pair.clean,
        "corrupted": decode(model, tokens.corrupted_ids) if text is None else text,
        "clean_ids": list(tokens.clean_ids),
        "corrupted_ids": list(tokens.corrupted_ids),
        "target_ids": list(tokens.target_ids),
        "target": TARGET_SEPARATOR.join(map(str, targets)),
        "n_pos": len(tokens.clean_ids),
        "first_changed": tokens.first_changed,
        "metric": metric,
        "foil": TARGET_SEPARATOR.join(model.tokenizer.decode([i]) for i in tokens.foil_ids),
        "foil_ids": list(tokens.foil_ids),
        "answer_ids": list(encode(model, answer)) if isinstance(answer, str) else [],
        "choice_ids": list(judged),
    }


def _too_few(task: str, n: int, fit: int, errors: list[UnfitPrompt]) -> PromptError:
    counts = Counter(error.kind for error in errors)
    why = "every candidate fits, there are no more"
    if counts:
        kind, count = counts.most_common(1)[0]
        example = next(str(error) for error in errors if error.kind == kind)
        why = f"most common reason: {kind} ({count} of {len(errors)} dropped), such as {example}"
    advice = f"ask for at most {fit}" if fit else "leave this task out for this model"
    return PromptError(
        f"task {task!r}: {n} prompts needed and only {fit} fit this model's tokenizer; "
        f"{advice}; {why}"
    )


def write_prompts(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a frame of `build` to parquet, whole or not at all.

    Raises PromptError on an empty frame or missing columns, WriteError as `files.whole` does.
    """
    _check_frame(frame, Path(path))
    with whole(path) as partial:
        frame.to_parquet(partial, index=False, schema=SCHEMA)


def read_prompts(path: str | Path) -> list[TokenPair]:
    """The token pairs of a file of `write_prompts`, in its order.

    Raises PromptError where the file is missing, damaged, empty, or holds a bad pair.
    """
    frame = _read_frame(Path(path))
    corruption = str(frame.attrs.get("corruption", "custom"))
    return [check_ids(_pair(row, corruption)) for row in frame.to_dict("records")]


def read_answers(path: str | Path) -> dict[str, Answer]:
    """What a right answer is to each prompt of a file of `write_prompts`; errors as read_prompts.

    By prompt_id, in the file's order.
    """
    return {
        str(row["prompt_id"]): Answer(
            tuple(row["target_ids"]), tuple(row["answer_ids"]), tuple(row["choice_ids"])
        )
        for row in _read_frame(Path(path)).to_dict("records")
    }


def _read_frame(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise PromptError(f"no prompts at {path}; make them with: snakemake --cores 1 {path}")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise PromptError(f"{path} is damaged ({first}); delete it and make it again") from error
    _check_frame(frame, path)
    return frame


def _pair(row: dict[Hashable, Any], corruption: str) -> TokenPair:
    sides = ("clean_ids", "corrupted_ids", "target_ids")
    clean, other, target = (tuple(row[side]) for side in sides)
    foil = tuple(row["foil_ids"])
    return TokenPair(clean, other, target, str(row["prompt_id"]), corruption, foil)


def _check_frame(frame: pd.DataFrame, path: Path) -> None:
    missing = [name for name in SCHEMA.names if name not in frame.columns]
    if missing:
        raise PromptError(f"{path}: column {missing[0]!r} is missing; needed: {SCHEMA.names}")
    if frame.empty:
        raise PromptError(f"{path}: the prompt list is empty; ask for at least 1 prompt")
    twice = frame["prompt_id"][frame["prompt_id"].duplicated()]
    if len(twice):
        raise PromptError(f"{path}: prompt_id {twice.iloc[0]!r} stands twice; ids must be unique")
