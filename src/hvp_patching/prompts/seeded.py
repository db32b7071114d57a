"""Draws that depend on their key alone: the same on any machine, in any order, for any subset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest(*key: object) -> int:
    """A 256-bit number from the SHA-256 of the key's parts."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def draw(size: int, *key: object) -> int:
    """A number in range(size), uniform over keys (bias below 2^-200 for any vocabulary)."""
    return digest(*key) % size


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """The names in an order fixed by the seed; an added name leaves the others' order as it was."""
    return sorted(names, key=lambda name: digest(seed, name))
