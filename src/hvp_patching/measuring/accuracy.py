"""Whether a model does a task at all: its answers to the clean prompts (rule compute_accuracy)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from hvp_patching.checking.check import Comparison
from hvp_patching.checking.subject import Subject
from hvp_patching.isolation import isolated
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.paths.base_run import check_eval_mode
from hvp_patching.paths.precision import keep_precision
from hvp_patching.prompts.answers import Answer
from hvp_patching.prompts.pair import TokenPair, as_token_pairs
from hvp_patching.sites import run_model


def task_accuracy(
    model: Any, pairs: Any, answers: Mapping[str, Answer] | None = None
) -> pd.DataFrame:
    """The model's answer to every pair's clean prompt: prompt_id, correct, lead (nats), chance.

    lead: the best right token's logit minus the best wrong one's; correct: it is positive, and so
    it is for every further token of an answer of several, given those before. `answers` by
    prompt_id say what is right and among which tokens; without one it is a pair's targets, among
    the whole vocabulary. ValueError for bad pairs, and for a model in train mode.
    """
    known = answers or {}
    rows = [
        answer_row(model, tokens, known.get(tokens.prompt_id) or Answer.of(tokens))
        for tokens in as_token_pairs(model, pairs)
    ]
    return pd.DataFrame(rows, columns=["prompt_id", "correct", "lead", "chance"])


def measure_accuracy(measurement: Measurement, answers: Mapping[str, Answer]) -> pd.DataFrame:
    """The rows of `task_accuracy` for a rule's prompts; CheckFailed where float64 disagrees."""

    def measure(subject: Subject) -> pd.DataFrame:
        answer = answers[subject.tokens.prompt_id]
        row = answer_row(subject.model, subject.tokens, answer)
        _check(measurement, subject, answer, float(row["lead"]))
        return pd.DataFrame([row])

    return measurement.table(measure)


def answer_row(model: Any, tokens: TokenPair, answer: Answer) -> dict[str, Any]:
    """One row of `task_accuracy`."""
    lead = _lead(model, tokens.clean_ids, answer.targets, answer.choices)
    return {
        "prompt_id": tokens.prompt_id,
        "correct": lead > 0 and _goes_on(model, tokens.clean_ids, answer.whole),
        "lead": lead,
        "chance": answer.chance,
    }


def _goes_on(model: Any, prompt: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether each token of the answer after its first one leads, given those before."""
    steps = ((prompt + whole[:done], whole[done : done + 1]) for done in range(1, len(whole)))
    return all(_lead(model, before, right, ()) > 0 for before, right in steps)


@isolated()
def _lead(model: Any, ids: Sequence[int], right: Sequence[int], choices: Sequence[int]) -> float:
    """Best right logit minus best wrong one after `ids`; among `choices`, or the vocabulary."""
    check_eval_mode(model)
    rows = torch.tensor([list(ids)], device=next(model.parameters()).device)
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        logits = run_model(model, rows, use_cache=False)[0, -1].double().cpu()
    wrong = torch.zeros(len(logits), dtype=torch.bool)
    wrong[list(choices) if choices else slice(None)] = True
    wrong[list(right)] = False
    return float(logits[list(right)].max() - logits[wrong].max())


def _check(measurement: Measurement, subject: Subject, answer: Answer, lead: float) -> None:
    if not measurement.check.on:
        return

    def verify(chosen: Sequence[str]) -> Iterator[Comparison]:
        for prompt in chosen:
            ids = subject.tokens.clean_ids
            other = _lead(subject.exact(), ids, answer.targets, answer.choices)
            size = torch.tensor(max(1.0, abs(lead)))
            tolerance = float(subject.tolerance(size))
            yield Comparison(f"{prompt}, lead", "a run in float64", lead, other, tolerance)

    measurement.check.rows(subject.prompt, [subject.prompt], verify)
