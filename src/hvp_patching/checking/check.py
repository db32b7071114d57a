"""A check that runs beside a rule: which rows it recomputes, how long it may, what it says."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

LEVELS = ("off", "sample", "all")
VARIABLE = "HVP_CHECK"
SHARE = 0.1  # of the rule's own time
SWITCHES = {"": None, "0": "off", "1": "on"}
Row = TypeVar("Row")


class CheckFailed(ValueError):
    """A number of a rule's that another way of computing it does not give."""


class CannotCheck(Exception):
    """Why nothing of a rule can be checked here; the rule goes on."""


@dataclass(frozen=True)
class Comparison:
    """One number, and what another way of computing it gave.

    where: prompt, component and what else names the number; method: the other way; tolerance: in
    the number's unit, what rounding and the other way's own error may explain.
    """

    where: str
    method: str
    ours: float
    other: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the two lie within the tolerance of each other; NaN never does."""
        return abs(self.ours - self.other) <= self.tolerance

    @property
    def tells(self) -> bool:
        """Whether the tolerance is below the size of what is compared: less tells nothing."""
        return self.tolerance < max(abs(self.ours), abs(self.other), MEANINGFUL)


MEANINGFUL = 1e-2  # a number below this, with a tolerance below this, is seen to be small


@dataclass
class _Tally:
    """How the comparisons by one method went."""

    rows: int = 0
    blurred: int = 0
    tolerances: list[float] = field(default_factory=list)


def chosen_level(configured: str, environ: Mapping[str, str] | None = None) -> str:
    """The level that the configuration and HVP_CHECK ask for: off, sample or all.

    HVP_CHECK=1 turns a check on that the configuration has off, 0 turns any off, and a level's own
    name is that level. ValueError for anything else.
    """
    asked = (os.environ if environ is None else environ).get(VARIABLE, "").strip().lower()
    switch = SWITCHES.get(asked, asked)
    if switch is None:
        level = configured
    elif switch == "on":
        level = "sample" if configured == "off" else configured
    else:
        level = switch
    if level not in LEVELS:
        raise ValueError(f"{VARIABLE} is '{asked}'; set it to 1, 0 or one of: {', '.join(LEVELS)}")
    return level


class Check:
    """Recomputes a seeded sample of a rule's rows while it runs, and stops it on disagreement.

    level: "off", "sample" (rows while the time spent on them stays below ``share`` of the rule's
    own time, and at least one) or "all". clock: seconds.
    """

    def __init__(
        self,
        level: str = "sample",
        share: float = SHARE,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if level not in LEVELS:
            raise ValueError(f"unknown check level '{level}'; choose one of: {', '.join(LEVELS)}")
        self.level, self.share, self.seed, self._clock = level, share, seed, clock
        self._began = clock()
        self._spent = 0.0
        self._last = 0.0  # seconds that the last row took: what the next one is expected to take
        self.seen = self.checked = 0
        self._tallies: dict[str, _Tally] = {}
        self.notes: dict[str, None] = {}
        self._impossible = False

    @property
    def on(self) -> bool:
        """Whether anything is to be checked."""
        return self.level != "off"

    def rows(
        self,
        name: str,
        rows: Sequence[Row],
        verify: Callable[[Sequence[Row]], Iterable[Comparison]],
    ) -> None:
        """Check rows of one prompt, called ``name``, as many as the level and the time allow.

        verify: the comparisons of some rows. CheckFailed on the first that disagrees.
        """
        if not self.on or not rows:
            return
        self.seen += len(rows)
        try:
            for chunk in self._chunks(name, rows):
                self._verify(chunk, verify)
        except CannotCheck as reason:
            self.note(str(reason))
            self._impossible = True

    def _chunks(self, name: str, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """All rows together, or one after the other in a seeded order while there is time."""
        if self._impossible:
            return
        if self.level == "all":
            yield rows
            return
        order = list(rows)
        random.Random(f"{self.seed}/{name}").shuffle(order)
        for row in order:
            if not self._affordable():
                return
            yield [row]

    def note(self, text: str) -> None:
        """Something that could not be checked, said once in the summary."""
        if self.on:
            self.notes.setdefault(text)

    def summary(self) -> str:
        """One line: how many rows agree by what, with which tolerances, in how many seconds."""
        parts = [
            f"{method} ({tally.rows - tally.blurred} tell, tol {_range(tally.tolerances)})"
            if tally.blurred
            else f"{method} (tol {_range(tally.tolerances)})"
            for method, tally in self._tallies.items()
        ]
        how = f" by {' and '.join(parts)}" if parts else ""
        notes = "".join(f"; {note}" for note in self.notes)
        return f"check: {self.checked} of {self.seen} rows agree{how}, {self._spent:.1f} s{notes}"

    def _affordable(self) -> bool:
        if not self.checked:
            return True
        own = self._clock() - self._began - self._spent
        return self._spent + self._last <= self.share * own

    def _verify(
        self, rows: Sequence[Row], verify: Callable[[Sequence[Row]], Iterable[Comparison]]
    ) -> None:
        began = self._clock()
        compared: dict[str, list[Comparison]] = {}
        for comparison in verify(rows):
            if not comparison.agrees:
                raise CheckFailed(_complaint(comparison))
            compared.setdefault(comparison.method, []).append(comparison)
        for method, found in compared.items():
            tally = self._tallies.setdefault(method, _Tally())
            tally.rows += len(found)
            tally.blurred += sum(not comparison.tells for comparison in found)
            tolerances = [*tally.tolerances, *(comparison.tolerance for comparison in found)]
            tally.tolerances = [min(tolerances), max(tolerances)]
        self.checked += len(rows)
        self._last = self._clock() - began
        self._spent += self._last


def _range(tolerances: Sequence[float]) -> str:
    low, high = min(tolerances), max(tolerances)
    return f"{high:.1g}" if f"{low:.1g}" == f"{high:.1g}" else f"{low:.1g} to {high:.1g}"


def _complaint(comparison: Comparison) -> str:
    return (
        f"check: {comparison.where}: {comparison.ours:.9g} here, {comparison.other:.9g} by "
        f"{comparison.method} (tolerance {comparison.tolerance:.2g}); do not trust these numbers: "
        "set results/store aside and run again, and report it if this comes back"
    )
