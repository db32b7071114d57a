"""The claims ledger as the report shows it: outcomes, counts and links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from hvp_patching.reporting.provenance import CSV
from hvp_patching.reporting.results import Record, ReportError, records

COLUMNS = [
    "claim_id",
    "section",
    "claim",
    "scope",
    "verdict",
    "published",
    "ours",
    "ci_low",
    "ci_high",
    "n",
    "model",
    "task",
    "source",
    "query",
    "command",
    "minutes",
    "tolerance",
    "reason",
]


@dataclass(frozen=True)
class Outcome:
    """What a verdict comes to: its name, sign and what it means."""

    name: str
    sign: str
    meaning: str


OUTCOMES = MappingProxyType(
    {
        "holds": Outcome("holds", "✓", "the evidence agrees with the claim"),
        "mixed": Outcome("mixed", "≈", "it agrees in some settings and not in others"),
        "fails": Outcome("does not hold", "✗", "the evidence speaks against the claim"),
        "undecided": Outcome("undecided", "?", "the interval covers both answers"),
        "not_run": Outcome("not tested", "–", "nothing here can answer it; its row says why"),
    }
)
# a verdict's words, before any bracket
VERDICTS = MappingProxyType(
    {
        "reproduced": "holds",
        "direction reproduced": "holds",
        "holds": "holds",
        "follows": "holds",
        "computed: agrees": "holds",
        "mixed": "mixed",
        "contradicted": "fails",
        "contradicts": "fails",
        "fails": "fails",
        "computed: differs": "fails",
        "undecided": "undecided",
        "not run": "not_run",
    }
)
CHECK = re.compile(r"\bK\d{3}\b")


@dataclass(frozen=True)
class Entry:
    """One claim: the ledger's row as text, its outcome, and what it links to."""

    row: Mapping[str, str]
    outcome: str
    exhibits: tuple[str, ...] = ()
    rule: str = ""
    log: str = ""

    @property
    def ours(self) -> str:
        """Our number with its interval."""
        low, high = self.row["ci_low"], self.row["ci_high"]
        return f"{self.row['ours']} [{low}, {high}]" if low and high else self.row["ours"]

    @property
    def models(self) -> list[str]:
        """The models behind the verdict, one by one."""
        return [name for name in re.split(r"[;,\s]+", self.row["model"]) if name]

    @property
    def checks(self) -> set[str]:
        """The checks of the paper's own numbers that the row names."""
        return set(
            CHECK.findall(" ".join(self.row[name] for name in ("source", "query", "reason")))
        )


def outcome_of(verdict: str) -> str:
    """The outcome of a verdict such as 'holds (5 of 6 settings)'; ``ReportError`` for another."""
    words = verdict.partition("(")[0].strip().lower()
    words = words.removeprefix("analogue").strip(" :,")
    if words not in VERDICTS:
        raise ReportError(
            f"the ledger has the verdict '{verdict}'; the report knows: {', '.join(VERDICTS)}"
        )
    return VERDICTS[words]


def read_ledger(path: Path | str) -> list[Entry]:
    """The ledger's claims in its order.

    Raises ``ReportError`` for a missing column, an unknown verdict or a claim that stands twice.
    """
    frame = pd.read_csv(path, comment=CSV.strip())
    absent = [name for name in COLUMNS if name not in frame]
    if absent:
        raise ReportError(f"{path} lacks {', '.join(absent)}: make it again")
    twice = frame.loc[frame["claim_id"].duplicated(), "claim_id"]
    if len(twice):
        raise ReportError(f"{path} has the claim {twice.iloc[0]} twice: make it again")
    return [Entry(row, outcome_of(row["verdict"])) for row in map(_as_text, records(frame))]


def _as_text(row: Record) -> dict[str, str]:
    return {name: _text(row[name]) for name in COLUMNS}


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "" if value is None else str(value).strip()


def tally(entries: Iterable[Entry]) -> dict[str, int]:
    """How many claims have each outcome, in the order of ``OUTCOMES``."""
    found = Counter(entry.outcome for entry in entries)
    return {name: found[name] for name in OUTCOMES}


def tally_by(entries: Sequence[Entry], column: str) -> dict[str, dict[str, int]]:
    """``tally`` for each value of a column, in the order of appearance."""
    values = dict.fromkeys(entry.row[column] for entry in entries)
    return {
        value: tally(entry for entry in entries if entry.row[column] == value) for value in values
    }


def tally_queries(entries: Sequence[Entry]) -> dict[str, int]:
    """How many queries have each outcome; one whose claims differ is mixed.

    A claim without a query counts as one of its own.
    """
    outcomes: dict[str, set[str]] = {}
    for entry in entries:
        query = entry.row["query"] or entry.row["claim_id"]
        outcomes.setdefault(query, set()).add(entry.outcome)
    found = Counter(min(one) if len(one) == 1 else "mixed" for one in outcomes.values())
    return {name: found[name] for name in OUTCOMES}
