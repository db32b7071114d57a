"""The paper's estimators as defined, beside truths that disagree with them in one respect.

Rule compute_floors. Estimates are the same in every reading; what changes is how the truth that
they are compared with was measured, and with it which components are the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd
import torch

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
from hvp_patching.paths.rows import Progress, Request, no_progress
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


@dataclass(frozen=True)
class Reading:
    """A reading of one prompt: its side, f of every component, those of largest |truth|.

    span: max truth − min truth over all components.
    """

    side: Side
    jets: Jets
    components: tuple[Component, ...]
    span: float


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
        if not side.half:
            return self._jets(side, self.m.model, self.m.backend, ENDS, None, progress)
        # by plain tensors, whose unpatched run is one more row for every component that asks for it
        how = (self.half_model, "autograd")
        with WideProducts():
            start = self._jets(side, *how, {0.0: 0}, ((0, 0),))
            end = self._jets(side, *how, {1.0: 0}, None, progress)
        values = torch.cat([start.values.expand_as(end.values), end.values], dim=1)
        return Jets(values, (0.0, 1.0), end.components)

    def _jets(
        self,
        side: Side,
        model: Any,
        backend: str,
        nodes: Request,
        components: tuple[Component, ...] | None,
        progress: Progress = no_progress,
    ) -> Jets:
        jets, _ = stored_jets(
            *(self.store, model, side.tokens, self.m.site, nodes, backend),
            *(components, side.direction, self.m.memory, progress),
            positions=side.positions,
            metric=side.metric,
        )
        return jets

    def reading(self, side: Side, progress: Progress) -> Reading:
        """The effects of a side, and which are the largest."""
        jets = self.effects(side, progress)
        return Reading(side, jets, *largest_effects(jets.to_frame(""), self.k)[""])

    def largest_means(self) -> tuple[tuple[Component, ...], float]:
        """The components of largest |mean of Δ over all prompts|, and the range of the means."""
        frames = [
            self.effects(Side(tokens, self.m.direction)).to_frame("") for tokens in self.m.prompts
        ]
        mean = pd.concat(frames).groupby([*PLACE, "node"], as_index=False)["f"].mean()
        return largest_effects(mean.assign(prompt_id=""), self.k)[""]

    def estimates(
        self, tokens: TokenPair, components: Sequence[Component], progress: Progress
    ) -> pd.DataFrame:
        """The estimators of some components as defined."""
        m = self.m
        frame = sweep_prompt(
            *(self.store, m.model, tokens, m.site, tuple(components), FLOOR_METHODS, m.backend),
            m.direction,
            memory=m.memory,
            progress=progress,
        )
        return frame.drop(columns="truth")

    def beside(self, reading: Reading, estimates: pd.DataFrame) -> pd.DataFrame:
        """The estimates of a reading's components beside its truths.

        From the other base run on, patching undoes what the corruption does: the effect, turned, is
        what the corruption does.
        """
        sign = 1.0 if reading.side.direction == self.m.direction else -1.0
        effect = sign * (reading.jets.at(1.0, 0) - reading.jets.at(0.0, 0))
        truths = reading.jets.components[PLACE].assign(truth=effect.numpy())
        chosen = pd.DataFrame(list(reading.components), columns=PLACE)
        own = estimates.merge(chosen, on=PLACE, validate="m:1")
        found: pd.DataFrame = own.merge(truths, on=PLACE, validate="m:1")
        return found.assign(truth_range=reading.span)


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
    means = floors.largest_means() if MEAN_FIRST in names else ((), 0.0)

    def advance(fraction: float) -> None:
        m.advance(fraction / (len(names) + 2))

    def measure(subject: Subject) -> pd.DataFrame:
        tokens = subject.tokens
        sides = {name: SIDES[name](m.model, Side(tokens, m.direction), seed) for name in names}
        first = floors.reading(Side(tokens, m.direction), advance)
        found = {
            name: first if side == first.side else floors.reading(side, advance)
            for name, side in sides.items()
            if side is not None
        }
        if MEAN_FIRST in found:
            found[MEAN_FIRST] = Reading(first.side, first.jets, *means)
        others = {place for one in found.values() for place in one.components}
        parts = [first.components, sorted(others - {*first.components})]
        estimates = pd.concat([floors.estimates(tokens, part, advance) for part in parts if part])
        frames = []
        for name, reading in found.items():
            frame = floors.beside(reading, estimates)
            same = name not in (AS_DEFINED, MEAN_FIRST) and reading is first
            if not same:
                _check(m, subject, reading, frame)
            frames.append(frame.assign(reading=name, changed=not same))
        return pd.concat(frames, ignore_index=True)

    return FLOOR_SCORES.check(m.table(measure))


def _check(m: Measurement, subject: Subject, reading: Reading, frame: pd.DataFrame) -> None:
    """Estimates and truths as defined; of another pair or base run, the truths that are used."""
    if not m.check.on:
        return
    side, jets = reading.side, reading.jets
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
