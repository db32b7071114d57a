"""Where the paper's own numbers disagree, beside what we have on the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hvp_patching.reporting.page.exhibits import Exhibit
from hvp_patching.reporting.page.ledger import Entry
from hvp_patching.reporting.results import records

NAMED = re.compile(r"\b(Tables?|Figures?) (\d+)((?:(?:, | and | vs |/)(?:\d+))*)")


@dataclass(frozen=True)
class Contradiction:
    """A check that fails: what is printed, what follows, and our claims and exhibits on it."""

    check_id: str
    kind: str
    where: str
    reported: str
    recomputed: str
    verdict: str
    comment: str
    claims: tuple[str, ...]
    exhibits: tuple[str, ...]


def read_contradictions(
    path: Path | str, entries: Sequence[Entry], exhibits: Sequence[Exhibit]
) -> list[Contradiction]:
    """The checks of a file like data/published/inconsistencies.csv, in its order."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    there = {exhibit.name for exhibit in exhibits}
    return [
        Contradiction(
            row["check_id"],
            row["category"].replace("_", " "),
            row["where"],
            row["reported"],
            row["recomputed"],
            row["verdict"],
            row["comment"],
            tuple(one.row["claim_id"] for one in entries if row["check_id"] in one.checks),
            tuple(name for name in named_in(f"{row['where']} {row['comment']}") if name in there),
        )
        for row in records(frame)
    ]


def named_in(text: str) -> list[str]:
    """The tables and figures that a text names, such as 'table3' and 'table11', each once."""
    found: dict[str, None] = {}
    for kind, first, more in NAMED.findall(text):
        for number in [first, *re.findall(r"\d+", more)]:
            found[f"{kind.lower().rstrip('s')}{int(number)}"] = None
    return list(found)
