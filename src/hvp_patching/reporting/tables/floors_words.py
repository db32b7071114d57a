"""What the readings of the error floors are called, and which one fits best, in words."""

from __future__ import annotations

from types import MappingProxyType

import pandas as pd

from hvp_patching.frames import AS_DEFINED, MEAN_FIRST
from hvp_patching.reporting.names import model_name
from hvp_patching.reporting.results import Record, ReportError, records

LABELS = MappingProxyType(
    {
        AS_DEFINED: "as defined",
        "redrawn": "another random token",
        "other_base": "the other base run",
        "last_position": "last position only",
        "logit_difference": "logit difference",
        MEAN_FIRST: "mean before the error",
        "half_precision": "half precision",
        "bos": "BOS mismatch",
    }
)
# How the truth is measured in each; the estimates stay as defined.
MEANINGS = MappingProxyType(
    {
        "redrawn": "the truth's random token drawn again",
        "other_base": "the truth measured from the other base run, with its sign turned",
        "last_position": "the truth patched at the last position alone",
        "logit_difference": "the truth a logit difference (Greater-Than: against the years that "
        "are not above), the estimates of the log-probability",
        MEAN_FIRST: "estimates and truths of each head averaged over the prompts before the error",
        "half_precision": "the truth by a model with weights and activations in bfloat16",
        "bos": "the truth on the prompt with a BOS in front where it has none, without it where it "
        "has one",
    }
)


def reading_label(reading: str) -> str:
    """A reading as tables and figures name it; ``ReportError`` listing the known ones."""
    if reading not in LABELS:
        raise ReportError(f"no reading '{reading}' of the floors; choose of {', '.join(LABELS)}")
    return LABELS[reading]


def conjecture(frame: pd.DataFrame) -> str:
    """Which reading comes closest to the paper's pattern, in numbers, and that it is a conjecture.

    ``frame`` has the columns of the frame ``fit``, empty where a reading does not exist.
    """
    ranked = frame.dropna(subset="rank")
    order = records(ranked.sort_values("rank").drop_duplicates("reading"))
    first, defined = order[0], next(row for row in order if row["reading"] == AS_DEFINED)
    parts = [_closest(first, defined), *_next(order), *_of_models(ranked, first)]
    nearest = records(ranked[ranked["gap_rank"] == 1])[0]
    if nearest["reading"] != first["reading"]:
        label = reading_label(nearest["reading"])
        parts.append(
            f"By differences of the ratios instead of their logarithms it is: {label} "
            f"({nearest['overall_gap']:.2f} against {first['overall_gap']:.2f})."
        )
    parts.append(
        "This is a conjecture: the paper does not say how its truth was measured, several causes "
        "may act at once, and only its code could tell."
    )
    return " ".join(parts)


def _closest(first: Record, defined: Record) -> str:
    factor = f"the ratios miss the paper's by a factor of {_factor(first)}"
    share = f", closest in {100 * first['closest']:.0f}% of the resamples of the prompts"
    share = "" if pd.isna(first["closest"]) else share
    if first["reading"] == AS_DEFINED:
        start = "No reading comes closer to the paper's pattern than the definitions"
        return f"{start}: {factor}{share}."
    label = reading_label(first["reading"])
    return (
        f"Closest to the paper's pattern: {label} ({factor}, root mean square of their logarithms"
        f"{share}; as defined, by {_factor(defined)})."
    )


def _next(order: list[Record]) -> list[str]:
    others = [row for row in order[1:] if row["reading"] != AS_DEFINED]
    return [f"Next: {reading_label(row['reading'])} ({_factor(row)})." for row in others[:1]]


def _of_models(ranked: pd.DataFrame, first: Record) -> list[str]:
    """Models on which another reading comes closest."""
    said = []
    for model, rows in ranked.groupby("model", sort=False):
        best = records(rows.sort_values("factor", kind="stable"))[0]
        if best["reading"] != first["reading"]:
            label = reading_label(best["reading"])
            said.append(f"On {model_name(str(model))} alone: {label} ({best['factor']:.1f}).")
    return said


def _factor(row: Record) -> str:
    """One decimal, two below 2."""
    value = row["overall_factor"]
    return f"{value:.2f}" if value < 2 else f"{value:.1f}"
