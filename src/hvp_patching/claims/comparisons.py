"""One rule per comparison: what a number and its interval say about a statement.

An outcome is that the statement holds, that it fails, or that the interval covers both. Without an
interval (nothing was sampled) the number itself decides, and equality decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["holds", "fails", "undecided"]
HOLDS: Outcome = "holds"
FAILS: Outcome = "fails"
UNDECIDED: Outcome = "undecided"
ROUNDING = 1e-9  # relative: numbers that differ by less are equal


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; NaN ends where nothing was sampled. n counts prompts."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, or the number itself twice."""
        if math.isnan(self.low) or math.isnan(self.high):
            return self.value, self.value
        return self.low, self.high


@dataclass(frozen=True)
class Target:
    """What a number is compared with: a limit or a range, and the deviation that is allowed."""

    low: float
    high: float
    tolerance: float = 0.0


Rule = Callable[[Estimate, Target], Outcome]


def below(ours: Estimate, target: Target) -> Outcome:
    """The whole interval lies below the limit."""
    low, high = ours.ends
    return _sure(high < target.low, low > target.low)


def above(ours: Estimate, target: Target) -> Outcome:
    """The whole interval lies above the limit."""
    low, high = ours.ends
    return _sure(low > target.high, high < target.high)


def at_most(ours: Estimate, target: Target) -> Outcome:
    """The whole interval lies at or below the limit, up to the tolerance."""
    low, high = ours.ends
    limit = target.low + target.tolerance + _slack(target.low)
    return _sure(high <= limit, low > limit)


def at_least(ours: Estimate, target: Target) -> Outcome:
    """The whole interval lies at or above the limit, up to the tolerance."""
    low, high = ours.ends
    limit = target.high - target.tolerance - _slack(target.high)
    return _sure(low >= limit, high < limit)


def not_above(ours: Estimate, target: Target) -> Outcome:
    """Not surely above the limit: "at least as good as", which a tie meets."""
    return FAILS if ours.ends[0] > target.low + target.tolerance else HOLDS


def ties(ours: Estimate, target: Target) -> Outcome:
    """The interval covers the limit: neither is surely better."""
    low, high = ours.ends
    return HOLDS if low <= target.high and high >= target.low else FAILS


def near(ours: Estimate, target: Target) -> Outcome:
    """The whole interval lies within the tolerance of the target."""
    low, high = ours.ends
    bottom, top = target.low - target.tolerance, target.high + target.tolerance
    return _sure(low >= bottom and high <= top, high < bottom or low > top)


def agrees(ours: Estimate, target: Target) -> Outcome:
    """The target lies within the tolerance of the number, or in its interval."""
    low, high = ours.ends
    slack = target.tolerance + max(_slack(target.low), _slack(target.high))
    bottom, top = min(low, ours.value - slack), max(high, ours.value + slack)
    return HOLDS if bottom <= target.high and top >= target.low else FAILS


COMPARISONS: dict[str, Rule] = {
    "below": below,
    "above": above,
    "at_most": at_most,
    "at_least": at_least,
    "not_above": not_above,
    "ties": ties,
    "near": near,
    "agrees": agrees,
}

# How the printed number of a claim is met, by the comparison that claims.csv gives it. A claim of
# another comparison states a direction, which its query judges.
PRINTED: dict[str, Rule] = {
    **dict.fromkeys(("==", "~=", "range", "order", "in", "between", "~0"), agrees),
    **dict.fromkeys(("min", "max", "best", "high", "low"), agrees),
    **dict.fromkeys(("<", "<=", "lower_than", "not_possible"), at_most),
    **dict.fromkeys((">", ">=", "greater_than", "higher_than"), at_least),
    **dict.fromkeys(("increases", "decreases", "better_than", "worse_than"), agrees),
}
DIRECTIONS = (
    *("at_least_as_good_as", "covers", "diagonal", "limited_to", "no_effect_on", "no_trend"),
    *("not_measured", "only", "peaks_in", "varies", "within"),
)


def judge(rule: Rule, ours: Estimate, target: Target) -> Outcome:
    """The rule's outcome; undecided where the number is not defined."""
    return UNDECIDED if math.isnan(ours.value) else rule(ours, target)


def _sure(holds: bool, fails: bool) -> Outcome:
    return HOLDS if holds else FAILS if fails else UNDECIDED


def _slack(limit: float) -> float:
    return ROUNDING * max(1.0, abs(limit))
