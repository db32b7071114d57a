"""Names of the methods that score edges; without torch, so that a configuration can be checked."""

from __future__ import annotations

import re
from types import MappingProxyType

# Families by what follows their name: nothing, a number of steps or edges, or a threshold.
STEPS, THRESHOLD = "N", "[TAU]"
FAMILIES = MappingProxyType(
    {
        "eap": "",
        "eap_ig_inputs": STEPS,
        "eap_ig_activations": STEPS,
        "hvp_own": "",
        "hvp_reader": "",
        "hvp_input": "",
        "hvp_joint": "",
        "ms_hvp_own": STEPS,
        "ms_hvp_input": STEPS,
        "ms_hvp_joint": STEPS,
        "ig_own": STEPS,
        "exact": "",
        "selective": THRESHOLD,
        "selective_input": THRESHOLD,
        "selective_joint": THRESHOLD,
        "hvp_input_flagged": THRESHOLD,
        "hvp_joint_flagged": THRESHOLD,
        "selective_own": STEPS,
        "selective_exact": STEPS,
    }
)
NUMBERS = {"": "()", STEPS: r"_(\d+)", THRESHOLD: r"(?:_(\d+(?:\.\d+)?))?"}
REPLACING = ("selective_own", "selective_exact")  # their edges are chosen by all pairs together
OWN = ("hvp_own", "ms_hvp_own", "ig_own", "exact", "selective")  # rows of their own for each edge
FLAGGED = ("selective_input", "selective_joint")  # … for each flagged edge
READER = ("hvp_reader",)  # … for each reader


def split_name(name: object) -> tuple[str, str]:
    """A method's family and the number behind it, "" without one; ValueError for no method."""
    for family, kind in FAMILIES.items():
        match = re.fullmatch(family + NUMBERS[kind], name) if isinstance(name, str) else None
        if match:
            number = match[1] or ""
            if kind == STEPS and int(number) < 1:
                what = "edge to replace" if family in REPLACING else "step"
                raise ValueError(f"method '{name}' needs at least 1 {what}")
            return family, number
    known = (family + ("_N" if kind == STEPS else kind) for family, kind in FAMILIES.items())
    listed = ", ".join(text.replace("[TAU]", "[_TAU]") for text in known)
    raise ValueError(f"unknown method {name!r}; known: {listed}")


def unit_of(name: str) -> str:
    """What a method's price is counted by: prompt (whatever the edges), edge, reader or flagged.

    The last is a price for each edge that is flagged. Edges that are replaced are as many whatever
    the graph.
    """
    family, _ = split_name(name)
    kinds = {"edge": OWN, "reader": READER, "flagged": FLAGGED}
    return next((unit for unit, families in kinds.items() if family in families), "prompt")


def replaces(name: str) -> int:
    """How many edges a method scores otherwise, chosen by all pairs together; 0 for others."""
    family, number = split_name(name)
    return int(number) if family in REPLACING else 0
