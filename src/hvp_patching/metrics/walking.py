"""What is known of the components so far, and the policy's way past those that stay sealed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]
Patch = Callable[[Places], Numbers]  # exact effects of the components of these numbers


class Known:
    """Exact effects so far, [N], NaN where there is none."""

    def __init__(self, patch: Patch, n: int, progress: Callable[[float], object]) -> None:
        self.effects: Numbers = np.full(n, np.nan)
        self.expected, self.reported = n, 0.0
        self._patch, self._progress = patch, progress

    def add(self, places: Places) -> None:
        """Patch these components."""
        if not len(places):
            return
        found = np.asarray(self._patch(places), dtype=np.float64)
        if not np.isfinite(found).all():
            bad = int(np.flatnonzero(~np.isfinite(found))[0])
            raise ValueError(f"the effect of component {places[bad]} is {found[bad]}")
        self.effects[places] = found
        done = min(len(places) / self.expected, 1.0 - self.reported)
        self.reported += done
        self._progress(done)

    def kth(self, k: int, hidden: Places) -> tuple[float, int]:
        """The k-th largest |effect| outside `hidden` and k; with fewer, the last and its rank.

        (0, 0) without any.
        """
        sizes = np.abs(self.effects)
        sizes[hidden] = np.nan
        sizes = np.sort(sizes[np.isfinite(sizes)])
        rank = min(k, len(sizes))
        return (float(sizes[-rank]), rank) if rank else (0.0, 0)


class Walk:
    """The policy's way down its order, in which sealed components are passed by."""

    def __init__(self, key: Numbers, tuning: Places, sealed: Places) -> None:
        ranked = np.argsort(-np.nan_to_num(key, nan=-np.inf), kind="stable")
        self.order: Places = ranked[~np.isin(ranked, tuning)]
        self._sealed = np.isin(self.order, sealed)
        self._ahead = int(self._sealed.sum())  # sealed components behind the last place
        self.place = 0

    def take(self, n: int, least: int) -> Places:
        """The next n components outside the sealed ones; fewer where only `least` of these remain.

        It stops on a place that it has looked at, never before one: else the next would be known.
        """
        taken: list[int] = []
        while len(taken) < n and self.place < len(self.order) and not (0 < self._ahead <= least):
            if self._sealed[self.place]:
                self._ahead -= 1
            else:
                taken.append(int(self.order[self.place]))
            self.place += 1
        return np.array(taken, dtype=np.int64)

    def largest_behind(self, upper: Numbers) -> float:
        """The largest upper end behind the last place, whoever is sealed."""
        return float(upper[self.order[self.place :]].max(initial=-np.inf))

    def sealed(self) -> Places:
        """The sealed components behind the last place."""
        return self.order[self.place :][self._sealed[self.place :]]

    def seal(self, places: Places) -> None:
        """Seal further components, which must be a uniform choice of those left."""
        self._sealed |= np.isin(self.order, places)

    def left(self) -> Places:
        """The components behind the last place that are not sealed."""
        return self.order[self.place :][~self._sealed[self.place :]]
