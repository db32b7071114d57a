"""Baselines looked up by name, where a name may end in a number of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from hvp_patching.baseline_names import counted

T = TypeVar("T")
LISTED = 5  # the number that stands for a family where all names are listed


class Named(Mapping[str, T]):
    """What belongs to a baseline, by its name: given ones, and FAMILY_N for every N ≥ 1.

    named: name -> value; families: family -> what makes the value for N. Listing the names lists a
    family once, with N = 5.
    """

    def __init__(self, named: Mapping[str, T], families: Mapping[str, Callable[[int], T]]) -> None:
        self._named, self._families = dict(named), dict(families)

    def __getitem__(self, name: str) -> T:
        if name in self._named:
            return self._named[name]
        found = counted(name)
        if found is None or found[0] not in self._families:
            raise KeyError(name)
        return self._families[found[0]](found[1])

    def __iter__(self) -> Iterator[str]:
        yield from self._named
        yield from (f"{family}_{LISTED}" for family in self._families)

    def __len__(self) -> int:
        return len(self._named) + len(self._families)
