"""The forms of a prompt pair, as text and as token ids, and the errors that name a pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ZERO_CORRUPTION = "zero"  # a' = 0 at every position, whatever the corrupted ids (appendix E.3)


class PromptError(ValueError):
    """Prompts, their data or a request for them that cannot be used; one line says what to do."""


class UnfitPrompt(PromptError):
    """One prompt that this tokenizer cannot use; `kind` is the reason without the particulars."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class TokenizerCarrier(Protocol):
    """What prompts need of a model: its tokenizer and `hvp_spec.prepend_bos`, not its weights."""

    @property
    def tokenizer(self) -> Any: ...

    @property
    def hvp_spec(self) -> Any: ...


@dataclass(frozen=True)
class PromptPair:
    """A prompt pair as text; `target` is one token's text with its leading space, or its id.

    Several targets (a sequence) are a set, whose probabilities are added. `foil` is what
    logit_difference sets against the target, in the same forms; None where the pair has none.
    """

    clean: str
    corrupted: str | None = None
    target: str | int | Sequence[str | int] = ""
    prompt_id: str = ""
    foil: str | int | Sequence[str | int] | None = None


@dataclass(frozen=True)
class TokenPair:
    """A prompt pair as token ids, BOS included; m = log Σ p(target_ids) at the last position.

    foil_ids: what logit_difference sets against the target; empty where the pair has no foil.
    """

    clean_ids: tuple[int, ...]
    corrupted_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    prompt_id: str = ""
    corruption: str = "custom"
    foil_ids: tuple[int, ...] = ()

    @property
    def first_changed(self) -> int:
        """First position (0-based, BOS counted) whose token differs; `n_pos` where none does.

        0 under zero corruption, which changes the activation everywhere.
        """
        if self.corruption == ZERO_CORRUPTION:
            return 0
        pairs = zip(self.clean_ids, self.corrupted_ids, strict=True)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), len(self.clean_ids))


def label(pair: PromptPair | TokenPair) -> str:
    """The pair's id, else the start of its text or ids: how an error names a prompt."""
    start = pair.clean if isinstance(pair, PromptPair) else _shown(pair.clean_ids)
    return f"prompt {(pair.prompt_id or str(start)[:60])!r}"


def _shown(ids: Any) -> Any:
    return list(ids) if isinstance(ids, Iterable) else ids


Pair = PromptPair | TokenPair
