"""What a right answer to a clean prompt is, as token ids."""

from __future__ import annotations

from dataclasses import dataclass

from hvp_patching.prompts.forms import TokenPair


@dataclass(frozen=True)
class Answer:
    """`whole`: all tokens of the answer in order, where `targets` is only the first of them.

    Elsewhere any of the targets is right. `choices`: the tokens that an answer is chosen among;
    empty for the whole vocabulary.
    """

    targets: tuple[int, ...]
    whole: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()

    @classmethod
    def of(cls, pair: TokenPair) -> Answer:
        """Any of the pair's targets, among the whole vocabulary."""
        return cls(pair.target_ids)

    @property
    def chance(self) -> float:
        """How often a draw among the choices is right; 0 for the whole vocabulary."""
        return len(set(self.targets) & set(self.choices)) / max(1, len(self.choices))
