"""The paper's estimators as defined, beside truths that disagree with them in one respect.

Rule compute_floors. Estimates are the same in every reading; what changes is how the truth that
they are compared with was measured, and with it which components are the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from hvp_patching.cache import Store, stored_jets
from hvp_patching.checking import Subject, check_jets, check_scores
from hvp_patching.frames import AS_DEFINED, FLOOR_METHODS, FLOOR_SCORES, MEAN_FIRST, READINGS
from hvp_patching.measuring.jets import ENDS
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.measuring.sweeps import largest_effects, sweep_prompt
from hvp_patching.models.half import WideProducts, halved
from hvp_patching.paths.base_run import DIRECTIONS
from hvp_patching.paths.jets import Jets
from hvp_patching.paths.metric import LOGPROB, AnyMetric, logit_difference
from hvp_patching.paths.rows import Progress, no_progress
from hvp_patching.prompts.pair import ZERO_CORRUPTION, TokenPair
from hvp_patching.prompts.variants import DRAWN, NOT_DRAWN, foils, redrawn, with_other_start
from hvp_patching.sites import Component

PLACE = ["layer", "index"]
UNCHECKED = (
    "truths at one position, by a logit difference and in half precision are not computed again"
)


@dataclass(frozen=True)
class Side:
    """How effects are measured: on which pair, from which base run, by which metric.

    positions: those that are patched, all with None; half: by a model in half precision.
    """

    tokens: TokenPair
    direction: str = "noising"
    metric: AnyMetric = LOGPROB
    positions: tuple[int, ...] | None = None
    half: bool = False


def _redrawn(model: Any, side: Side, seed: int) -> Side | None:
    """Nothing is drawn by a name swap; of other drawn corruptions we have no second draw."""
    if side.tokens.corruption == DRAWN:
        return replace(side, tokens=redrawn(model, side.tokens, seed))
    return side if side.tokens.corruption in NOT_DRAWN else None


def _other_base(model: Any, side: Side, seed: int) -> Side | None:
    if side.tokens.corruption == ZERO_CORRUPTION:
        return None
    return replace(side, direction=next(d for d in DIRECTIONS if d != side.direction))


def _last_position(model: Any, side: Side, seed: int) -> Side:
    return replace(side, positions=(len(side.tokens.clean_ids) - 1,))


def _logit_difference(model: Any, side: Side, seed: int) -> Side | None:
    against = foils(model, side.tokens)
    return replace(side, metric=logit_difference(against)) if against else None


def _bos(model: Any, side: Side, seed: int) -> Side | None:
    tokens = with_other_start(model, side.tokens)
    return None if tokens is None else replace(side, tokens=tokens)


# The truth's side of a reading from the side as defined; None where the task or model has no such
# thing, the side itself where it makes no difference.
SIDES: dict[str, Callable[[Any, Side, int], Side | None]] = {
    AS_DEFINED: lambda model, side, seed: side,
    "redrawn": _redrawn,
    "other_base": _other_base,
    "last_position": _last_position,
    "logit_difference": _logit_difference,
    MEAN_FIRST: lambda model, side, seed: side,
    "half_precision": lambda model, side, seed: replace(side, half=True),
    "bos": _bos,
}


@dataclass
class Floors:
    """What the rule measures with; k: components of largest |truth| that are estimated."""

    m: Measurement
    store: Store
    k: int

    @cached_property
    def half_model(self) -> Any:
        """A model of its own: its weights are rounded in place."""
        return halved(self.m.load("float32"))

    def effects(self, side: Side, progress: Progress = no_progress) -> Jets:
        """f at both ends of the path of every component."""
        model = self.half_model if side.half else self.m.model
        backend = "autograd" if side.half else self.m.backend  # of plain tensors alone
        with WideProducts() if side.half else nullcontext():
            jets, _ = stored_jets(
                *(self.store, model, side.tokens, self.m.site, ENDS, backend),
                *(None, side.direction, self.m.memory, progress),
                positions=side.positions,
                metric=side.metric,
            )
        return jets

    def truths(self, side: Side, jets: Jets) -> pd.DataFrame:
        """layer, index and Δ with the sign of the estimates' base run.

        From the other run on, patching undoes what the corruption does: its effect is minus ours.
        """
        sign = 1.0 if side.direction == self.m.direction else -1.0
        effect = sign * (jets.at(1.0, 0) - jets.at(0.0, 0))
        return jets.components[PLACE].assign(truth=effect.numpy())

    def largest(self, jets: Jets) -> tuple[tuple[Component, ...], float]:
        """The components of largest |Δ|, and max Δ − min Δ over all."""
        return largest_effects(jets.to_frame(""), self.k)[""]

    def largest_means(self) -> tuple[tuple[Component, ...], float]:
        """The same of the mean of Δ over all prompts."""
        frames = [
            self.effects(Side(tokens, self.m.direction)).to_frame("") for tokens in self.m.prompts
        ]
        mean = pd.concat(frames).groupby([*PLACE, "node"], as_index=False)["f"].mean()
        return largest_effects(mean.assign(prompt_id=""), self.k)[""]

    def scores(
        self,
        tokens: TokenPair,
        truths: pd.DataFrame,
        largest: tuple[tuple[Component, ...], float],
        progress: Progress,
    ) -> pd.DataFrame:
        """The estimators of the chosen components as defined, beside these truths."""
        m, (components, effect_range) = self.m, largest
        frame = sweep_prompt(
            *(self.store, m.model, tokens, m.site, components, FLOOR_METHODS, m.backend),
            m.direction,
            memory=m.memory,
            progress=progress,
        )
        beside: pd.DataFrame = frame.drop(columns="truth").merge(
            truths, how="left", on=PLACE, validate="m:1"
        )
        return beside.assign(truth_range=effect_range)


def measure_floors(
    measurement: Measurement, store: Store, readings: Sequence[str], k: int, seed: int = 0
) -> pd.DataFrame:
    """The frame `floor_scores`: per prompt and reading the components of largest |truth|.

    readings: some of READINGS; as defined is always among the rows. A reading that a task or a
    model does not have (a logit difference without a foil) has no rows. Estimates and truths in
    nats, those by a logit difference in logits. ValueError for an unknown reading or as in
    path_jets; CheckFailed.
    """
    unknown = [name for name in readings if name not in SIDES]
    if unknown:
        raise ValueError(f"unknown reading '{unknown[0]}'; known: {', '.join(READINGS)}")
    m, floors = measurement, Floors(measurement, store, k)
    names = list(dict.fromkeys([AS_DEFINED, *readings]))
    means = floors.largest_means() if MEAN_FIRST in names else None

    def advance(fraction: float) -> None:
        m.advance(fraction / (2 * len(names)))

    def measure(subject: Subject) -> pd.DataFrame:
        defined = Side(subject.tokens, m.direction)
        frames: list[pd.DataFrame] = []
        for name in names:
            side = SIDES[name](m.model, defined, seed)
            if side is None:
                continue
            if side == defined and name not in (AS_DEFINED, MEAN_FIRST):
                frames.append(frames[0].assign(reading=name, changed=False))
                continue
            jets = floors.effects(side, advance)
            largest = means if name == MEAN_FIRST and means else floors.largest(jets)
            truths = floors.truths(side, jets)
            frame = floors.scores(subject.tokens, truths, largest, advance)
            _check(m, subject, side, jets, frame)
            frames.append(frame.assign(reading=name, changed=True))
        return pd.concat(frames, ignore_index=True)

    return FLOOR_SCORES.check(m.table(measure))


def _check(m: Measurement, subject: Subject, side: Side, jets: Jets, frame: pd.DataFrame) -> None:
    """Estimates and truths as defined; of another pair or base run, the truths that are used."""
    if not m.check.on:
        return
    if side == Side(subject.tokens, m.direction):
        check_scores(m.check, subject, frame)
    elif side.half or side.positions or side.metric != LOGPROB:
        m.check.note(UNCHECKED)
    else:
        used = jets.components.merge(frame[PLACE].drop_duplicates().assign(used=True), how="left")
        rows = [i for i, kept in enumerate(used["used"].notna()) if kept]
        places = jets.components.iloc[rows].reset_index(drop=True)
        other = replace(subject, tokens=side.tokens, direction=side.direction)
        check_jets(m.check, other, replace(jets, values=jets.values[rows], components=places))
