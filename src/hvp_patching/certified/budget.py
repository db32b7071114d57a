"""Budgets: forward passes, which are counted, or seconds, which a clock measures."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# What counts as how many forward passes of one prompt. A patched row is at most one: it leaves out
# the layers before its own and the positions before the first change.
FORWARD, REVERSE, PATCH = 1, 3, 1  # a backward pass is two forward ones, and needs its forward pass
RUNS = 2 * FORWARD  # both prompts, unpatched
CURVATURE = 4  # q of one component: two backward passes
UNITS = {"passes": 1.0, "pass": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "second": 1.0}
MINUTES = {"min": 60.0, "minutes": 60.0, "minute": 60.0}
AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([a-z]*)\s*")


@dataclass(frozen=True)
class Budget:
    """What may be spent: a number of forward passes, or seconds."""

    passes: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, given: Any) -> Budget:
        """A whole number, '200 passes', '60s' or '2 min'; ``ValueError`` for anything else."""
        if isinstance(given, Budget):
            return given
        if isinstance(given, str):
            match = AMOUNT.fullmatch(given.lower())
            if match is None:
                raise _unclear(given)
            amount, unit = float(match[1]), match[2] or "passes"
        elif isinstance(given, bool) or not isinstance(given, int | float):
            raise _unclear(given)
        else:
            amount, unit = float(given), "passes"
        if not 0 < amount < math.inf:
            raise ValueError(f"the budget {given!r} must be above 0 and finite")
        if unit in MINUTES:
            return cls(seconds=amount * MINUTES[unit])
        if unit not in UNITS:
            raise _unclear(given)
        if not unit.startswith("pass"):
            return cls(seconds=amount)
        if amount != int(amount):
            raise ValueError(f"the budget {given!r} must be a whole number of passes")
        return cls(passes=int(amount))

    def __str__(self) -> str:
        return f"{self.passes} passes" if self.seconds is None else f"{self.seconds:g} s"


def _unclear(given: Any) -> ValueError:
    return ValueError(
        f"the budget is {given!r}; give forward passes (200 or '200 passes') or time ('60s')"
    )


@dataclass
class Meter:
    """What has been spent of a budget since it was made: passes by count, seconds by the clock."""

    budget: Budget
    clock: Callable[[], float] = time.perf_counter
    passes: int = 0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    def pay(self, passes: int, what: str) -> None:
        """Count passes that have to be paid; ``ValueError`` where the budget does not hold them."""
        self.passes += passes
        if self.budget.passes is not None and self.passes > self.budget.passes:
            raise ValueError(
                f"the budget of {self.budget} does not pay {what}, which takes {self.passes} "
                f"passes; give more than {self.passes}"
            )

    def check_time(self, what: str) -> None:
        """``ValueError`` where the seconds are spent."""
        if self.budget.seconds is not None and self.seconds >= self.budget.seconds:
            raise ValueError(
                f"the budget of {self.budget} was spent on {what}, which took "
                f"{self.seconds:.3g} s; give more time, or a number of passes"
            )


class Allowance:
    """A share of what a meter has left, for components that take `rows` patched rows each."""

    def __init__(self, meter: Meter, rows: int, share: float = 1.0) -> None:
        self.meter, self.rows = meter, rows
        spent = meter.passes if meter.budget.seconds is None else meter.seconds
        whole = meter.budget.passes if meter.budget.seconds is None else meter.budget.seconds
        assert whole is not None
        self._end = spent + share * (whole - spent)
        self._patched, self._seconds = 0, 0.0

    def left(self) -> int | None:
        """How many more components can be patched; None before the clock has seen one."""
        if self.meter.budget.seconds is None:
            return max(0, int(self._end - self.meter.passes) // (self.rows * PATCH))
        remaining = self._end - self.meter.seconds
        if remaining <= 0:
            return 0
        if not self._patched:
            return None
        return int(remaining * self._patched / max(self._seconds, 1e-9))

    def patched(self, components: int, seconds: float) -> None:
        """Note that so many were patched in so many seconds."""
        self.meter.passes += components * self.rows * PATCH
        self._patched += components
        self._seconds += seconds
