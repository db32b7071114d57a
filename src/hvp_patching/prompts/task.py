"""What a task is: where its prompts come from, its corruptions, how its target is settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hvp_patching.prompts.pair import (
    PromptError,
    PromptPair,
    TokenizerCarrier,
    UnfitPrompt,
    encode,
    label,
    pieces,
)
from hvp_patching.prompts.seeded import digest

METRIC = "log-probability of the target"


def plain_target(model: TokenizerCarrier, pair: PromptPair) -> tuple[PromptPair, str]:
    """The pair unchanged, once its target is what follows the prompt as one more token."""
    if not isinstance(pair.target, str):
        raise PromptError(f"{label(pair)}: this task has one target, not {pair.target!r}")
    ids, prompt_ids = encode(model, pair.clean + pair.target), encode(model, pair.clean)
    target_ids = encode(model, pair.target)
    # A target of several tokens is the better reason, and as_token_pair gives it.
    if len(target_ids) == 1 and ids != prompt_ids + target_ids:
        raise UnfitPrompt(
            f"{label(pair)}: with {pair.target!r} appended the text ends in "
            f"{pieces(model, ids[-2:])}, not in {pieces(model, (*prompt_ids[-1:], *target_ids))}; "
            "the target must not merge with the prompt",
            "target merges with the prompt",
        )
    return pair, METRIC


def _whole_vocabulary(pair: PromptPair) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Task:
    """A source of prompts.

    `candidates(seed)` yields distinct pairs, the same ones whatever number is taken; `settle(model,
    pair)` gives the pair with the target that this tokenizer has, and the metric's name, or raises
    UnfitPrompt. The options name the keyword arguments that each takes beyond these. `choices` of a
    pair are the tokens among which an answer is judged, none for the whole vocabulary. A task that
    only some `profiles` have says in `elsewhere` why the others do not.
    """

    name: str
    candidates: Callable[..., Iterator[PromptPair]]
    corruptions: tuple[str, ...]
    settle: Callable[..., tuple[PromptPair, str]] = plain_target
    candidate_options: tuple[str, ...] = ()
    settle_options: tuple[str, ...] = ()
    choices: Callable[[PromptPair], tuple[str, ...]] = _whole_vocabulary
    profiles: tuple[str, ...] = ()
    elsewhere: str = ""

    @property
    def default_corruption(self) -> str:
        """The first of `corruptions`."""
        return self.corruptions[0]


def _as_it_is(pair: PromptPair) -> PromptPair:
    return pair


@dataclass(frozen=True)
class Donors:
    """Prompts that can lend their clean run to another prompt, as its corrupted run.

    `settle` fits one to the tokenizer when it is drawn, or raises UnfitPrompt.
    """

    candidates: Sequence[PromptPair]
    settle: Callable[[PromptPair], PromptPair] = _as_it_is

    def drawn(self, *key: object) -> Iterator[PromptPair]:
        """Those that fit, in an order fixed by the key; an added one leaves the others' order."""
        for pair in sorted(
            self.candidates, key=lambda pair: digest(*key, pair.prompt_id or pair.clean)
        ):
            try:
                yield self.settle(pair)
            except UnfitPrompt:
                continue


def take(task: str, candidates: Iterator[PromptPair], n: int | None) -> list[PromptPair]:
    """The first `n` candidates (None: all); PromptError where fewer exist or n is below 1."""
    check_count(task, n)
    found = list(islice(candidates, n))
    if n is not None and len(found) < n:
        raise PromptError(
            f"task {task!r}: {n} prompts needed and only {len(found)} exist; ask for fewer, "
            "or add to its file in data/prompts"
        )
    return found


def check_count(task: str, n: Any) -> None:
    """Raise PromptError unless `n` is None or a positive whole number."""
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise PromptError(
            f"task {task!r}: {n!r} prompts asked for, which leaves an empty prompt list; "
            "ask for at least 1"
        )
