"""The marks of a comparison: better or worse, and whether that survives the other comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from hvp_patching.frames import ALPHA, SMALLEST_SAMPLE
from hvp_patching.reporting.cells import GAP, p_value
from hvp_patching.reporting.latex import Tex

SYMBOLS = MappingProxyType({"better": r"\star", "worse": r"\circ"})
MARKS = MappingProxyType({"win": "better", "loss": "worse", "tie": "none", "undecided": "none"})


def sign(mark: str, survives: bool = False) -> Tex:
    """The sign of better or worse, doubled where it survives; empty for none."""
    symbol = SYMBOLS.get(mark, "")
    return Tex(f"$^{{{symbol * (1 + survives)}}}$") if symbol else Tex("")


def overhang(text: Tex, mark: Tex) -> Tex:
    """A mark that takes no width, so that digits stay aligned."""
    return Tex(rf"{text}\rlap{{{mark}}}") if mark else text


def marked_p(row: Mapping[str, Any], p: str = "p", verdict: str = "verdict") -> Tex:
    """p of a row of ``paired`` or ``marks`` with its sign; ``GAP`` where no test can decide."""
    if not row or not row["decidable"]:
        return GAP
    return overhang(p_value(row[p]), sign(MARKS[row[verdict]], row.get("survives") is True))


def marks_notes(marked: pd.DataFrame, against: str) -> list[str]:
    """What the signs in a table mean, and how many of its comparisons no test can decide.

    ``marked`` is the table's frame ``marks``; ``against`` names what each is set against.
    """
    decidable = int(marked["decidable"].sum())
    level = rf"{100 * ALPHA:g}\%"
    notes: list[str] = [
        Tex(
            rf"$^{{\star}}$ better, $^{{\circ}}$ worse than {against} at raw $p < {ALPHA}$, as in "
            r"the paper (paired bootstrap over prompts); doubled where that survives "
            rf"Benjamini--Hochberg at {level} over all comparisons of the table that can be "
            rf"decided ({decidable})."
        )
    ]
    undecided = len(marked) - decidable
    if undecided:
        few = rf"fewer than {SMALLEST_SAMPLE} prompts differ there, and no exact test can reach"
        notes.append(
            Tex(
                rf"Undecided, without a mark: {undecided} of {len(marked)} comparisons. $n$ is too "
                rf"small: {few} $p < {ALPHA}$."
            )
        )
    return notes
