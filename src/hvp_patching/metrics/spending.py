"""Which components to patch exactly, so that the others keep intervals that may be relied on.

1. A uniform draw, fixed by the seed before anything is measured, is patched. One part of it, the
   tuning part T, is open; the other, the calibration part C, stays sealed.
2. Scores and T choose the scale of the intervals and an order of all components outside T.
3. The policy walks down that order and patches what it meets outside C. It stops at a place t that
   depends on the budget, on T, on what it has patched, and on which places up to t are in C.
4. Where the walk has to end because too few of C lie behind, what is left of the budget draws more
   of them uniformly from what is left. C is opened; those behind t calibrate the components left,
   which all lie behind t.

Given all that the policy has seen, the places behind t that are in C are a uniform choice among
the places behind t (t is a stopping time, and the draw knew of no order). The components left and
the calibration components behind t are therefore exchangeable, whatever was patched before: a
component left lies in its interval with probability ≥ 1 − α over the draw. A quantile of the whole
of C would not do: it would speak of the components that the policy has taken away, too. Components
patched exactly are known, so that the same holds for all components together, a fortiori.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvp_patching.metrics.certificates import conformal_quantile, most_missed, needed
from hvp_patching.metrics.walking import Known, Numbers, Patch, Places, Walk

LARGEST_UPPER, AP, RHO, HALF_Q, RANDOM = POLICIES = (
    *("largest_upper", "ap", "rho", "half_q", "random"),
)
SECOND_ORDER = (RHO, HALF_Q)  # policies that need q of every component
PROBE = 16  # patches by which a clock learns what one takes, and least between two looks
DRAWN = 0.4  # share of the affordable patches that are drawn uniformly
TUNING = 0.25  # share of the draw that chooses the scale
SMALLEST_TUNING = 5  # of fewer components no choice is made
LOOKS = 4  # times that a policy looks at what it has found, or at the clock; each costs a pass


def with_median(sizes: Numbers) -> Numbers:
    """Sizes [N] plus their median, a scale that nowhere vanishes; their mean where that is 0."""
    middle = float(np.median(sizes)) or float(np.mean(sizes)) or 1.0
    return sizes + middle


class Purse(Protocol):
    """What is left to spend."""

    def left(self) -> int | None:
        """How many more components can be patched; None before a clock has seen one patched."""


@dataclass(frozen=True)
class Components:
    """What is known of N components before any is patched exactly.

    scores: [N], in the metric's units; scales: name -> [N], positive, the first being that of no
    choice; keys: what the policies 'rho' and 'half_q' order by, [N] each.
    """

    scores: Numbers
    scales: Mapping[str, Numbers]
    keys: Mapping[str, Numbers] = field(default_factory=dict)


@dataclass(frozen=True)
class Certificate:
    """What holds for the components left (see the module's docstring).

    n_components: all; n_left: not patched; n_drawn: calibration components behind the policy's
    last place, which speak for those left; quantile: of their residuals, in units of the scale;
    scale: its name; threshold: the rank-th largest |effect| known before they were opened, rank
    being k or, where fewer are known, the last; at_most: so many of those left exceed it, with
    confidence 1 − α; reaching: intervals of those left that reach it; complete: why everything was
    patched, else "".
    """

    n_components: int
    n_left: int
    n_drawn: int
    quantile: float
    scale: str
    threshold: float
    rank: int
    at_most: int
    reaching: int
    complete: str = ""


@dataclass(frozen=True)
class Spent:
    """Estimates and intervals of all components, and the certificate for those left.

    estimate, low, high: [N], in the metric's units; exact, drawn: [N] bool, drawn uniformly.
    """

    estimate: Numbers
    low: Numbers
    high: Numbers
    exact: NDArray[np.bool_]
    drawn: NDArray[np.bool_]
    certificate: Certificate


def spend(
    components: Components,
    patch: Patch,
    purse: Purse,
    alpha: float = 0.1,
    top_k: int = 10,
    policy: str = LARGEST_UPPER,
    seed: int | list[int] = 0,
    progress: Callable[[float], object] = lambda fraction: None,
) -> Spent:
    """Spend the purse on exact patches by a policy; intervals for the rest, as above.

    'largest_upper' ends early where no |score| plus the largest residual of T (an interval of
    more than 1 − α) reaches the k-th largest known |effect|; the others spend everything. Where
    the purse holds all components, or these are no more than the calibration needs, all are
    patched. ``ValueError`` for NaN effects.
    """
    n, rng = len(components.scores), np.random.default_rng(seed)
    drawing, shuffled = rng.permutation(n), rng.permutation(n)
    known = Known(patch, n, progress)
    if n <= needed(alpha):
        known.add(drawing)
        why = f"{n} components are too few to calibrate alpha={alpha:g} on {needed(alpha)} of them"
        return _complete(components, known, top_k, why)
    clocked = purse.left() is None
    probe = drawing[: PROBE if clocked else 0]
    known.add(probe)
    affordable = len(probe) + (purse.left() or 0)
    if affordable >= n:
        known.add(drawing[len(probe) :])
        return _complete(components, known, top_k, "the budget pays for all")
    known.expected = max(1, affordable)
    n_drawn = max(len(probe), drawn_size(n, affordable, alpha))
    known.add(drawing[len(probe) : n_drawn])
    tuning, sealed = np.split(drawing[:n_drawn], [tuning_size(n_drawn)])
    scale, reach, largest = _tuned(components, tuning, known.effects, alpha)
    keys = {AP: np.abs(components.scores), RANDOM: shuffled.astype(np.float64), **components.keys}
    sizes, width = np.abs(components.scores), components.scales[scale]
    upper, highest = sizes + reach * width, sizes + largest * width
    walk = Walk(upper if policy == LARGEST_UPPER else keys[policy], tuning, sealed)
    least = needed(alpha) if len(sealed) >= needed(alpha) else 0
    stops = policy == LARGEST_UPPER and len(tuning) >= needed(alpha)
    looks = LOOKS if stops or clocked else 1
    step = max(PROBE, math.ceil((purse.left() or 0) / looks))
    while room := purse.left():
        found, rank = known.kth(top_k, hidden=walk.sealed())
        if stops and rank == top_k and walk.largest_behind(highest) < found:
            break
        taken = walk.take(min(step, room), least)
        if not len(taken):  # too few sealed ones are left to go on: draw more from what is left
            left = walk.left()
            taken = drawing[np.isin(drawing, left)][: min(step, room)]
            walk.seal(taken)
            if not len(taken):
                break
        known.add(taken)
    progress(max(0.0, 1.0 - known.reported))
    return _certified(components, known, walk, drawing[:n_drawn], scale, alpha, top_k)


def drawn_size(n: int, affordable: int, alpha: float) -> int:
    """How many of the affordable patches are drawn uniformly.

    ``DRAWN`` of them, and more where too few would lie behind the policy's last place, as far as
    can be expected.
    """
    first = math.ceil(DRAWN * affordable)
    least = needed(alpha)
    for drawn in range(first, affordable + 1):
        walked = (affordable - drawn) / (n - drawn)
        if (drawn - tuning_size(drawn)) * (1 - walked) > least:
            return drawn
    return affordable if affordable - tuning_size(affordable) >= least else first


def tuning_size(n_drawn: int) -> int:
    """How many of the drawn components choose the scale; 0 where they are too few to."""
    size = int(TUNING * n_drawn)
    return size if size >= SMALLEST_TUNING else 0


def _tuned(
    components: Components, tuning: Places, effects: Numbers, alpha: float
) -> tuple[str, float, float]:
    """The scale that is narrowest on the tuning part, its quantile and its largest residual."""
    first = next(iter(components.scales))
    if not len(tuning):
        return first, 1.0, math.inf
    misses = np.abs(effects - components.scores)[tuning]

    def reach(scale: Numbers) -> float:
        residuals = misses / scale[tuning]
        found = conformal_quantile(residuals, alpha)
        return found if math.isfinite(found) else float(residuals.max())

    found = {name: reach(scale) for name, scale in components.scales.items()}
    widths = {name: found[name] * float(components.scales[name].mean()) for name in found}
    best = min(widths, key=lambda name: widths[name])
    return best, found[best], float((misses / components.scales[best][tuning]).max())


def _complete(components: Components, known: Known, top_k: int, why: str) -> Spent:
    effects, n = known.effects, len(components.scores)
    everything = np.ones(n, dtype=np.bool_)
    threshold, rank = known.kth(top_k, hidden=np.array([], dtype=np.int64))
    certificate = Certificate(n, 0, 0, 0.0, "", threshold, rank, 0, 0, why)
    return Spent(effects, effects, effects, everything, ~everything, certificate)


def _certified(
    components: Components,
    known: Known,
    walk: Walk,
    drawing: Places,
    scale_name: str,
    alpha: float,
    top_k: int,
) -> Spent:
    n, left = len(components.scores), walk.left()
    sealed = walk.sealed()
    scale, effects = components.scales[scale_name], known.effects
    residuals = np.abs(effects - components.scores)[sealed] / scale[sealed]
    quantile = conformal_quantile(residuals, alpha)
    exact = np.isfinite(effects)
    estimate = np.where(exact, effects, components.scores)
    radius = np.zeros(n)
    radius[~exact] = quantile * scale[~exact]
    low, high = estimate - radius, estimate + radius
    threshold, rank = known.kth(top_k, hidden=sealed)
    above = int((np.abs(effects[sealed]) > threshold).sum())
    reaching = np.maximum(np.abs(low), np.abs(high))[left] > threshold
    certificate = Certificate(
        n_components=n,
        n_left=len(left),
        n_drawn=len(sealed),
        quantile=quantile,
        scale=scale_name,
        threshold=threshold,
        rank=rank,
        at_most=most_missed(len(left) + len(sealed), len(sealed), above, alpha),
        reaching=int(reaching.sum()),
    )
    drawn = np.isin(np.arange(n), [*drawing, *sealed])
    return Spent(estimate, low, high, exact, drawn, certificate)
