"""Names of the baselines that count steps, known without loading what computes them."""

from __future__ import annotations

import re

COUNTED = ("ig_inputs",)  # families: a name is FAMILY_N with N ≥ 1, as in ig_inputs_5


def counted(name: str) -> tuple[str, int] | None:
    """Family and number of steps of a name such as 'ig_inputs_5', None for any other."""
    match = re.fullmatch(r"(.+)_([1-9][0-9]{0,5})", name)
    if match is None or match[1] not in COUNTED:
        return None
    return match[1], int(match[2])


def module_of(name: str) -> str:
    """The module of `hvp_patching.baselines` that computes a baseline, if there is one."""
    found = counted(name)
    return found[0] if found else name


def spelled(family: str) -> str:
    """How messages list a name: 'ig_inputs_N' for a family that counts steps."""
    return f"{family}_N" if family in COUNTED else family
