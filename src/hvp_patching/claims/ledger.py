"""The ledger: one row per claim, the evidence behind it, and how many verdicts there are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from hvp_patching.claims.evidence import Check, Evidence
from hvp_patching.claims.needs import commands, needed
from hvp_patching.claims.reading import Claim, Query
from hvp_patching.claims.verdicts import NONE, Verdict, verdict

COLUMNS = [
    *("claim_id", "section", "claim", "scope", "verdict", "published", "ours", "ci_low"),
    *("ci_high", "n", "model", "task", "source", "query", "command", "minutes", "tolerance"),
    "reason",
]
CHECK_COLUMNS = [
    *("claim_id", "query", "says", "model", "task", "ours", "ci_low", "ci_high", "n"),
    *("comparison", "target_low", "target_high", "tolerance", "outcome", "source"),
]
COUNT_COLUMNS = ["of", "scope", "verdict", "count"]


def verdicts(
    claims: Sequence[Claim], queries: Mapping[str, Query], evidence: Evidence
) -> dict[str, Verdict]:
    """The verdict of every claim, by its id."""
    return {claim.claim_id: verdict(claim, queries, evidence) for claim in claims}


def ledger(
    claims: Sequence[Claim],
    queries: Mapping[str, Query],
    found: Mapping[str, Verdict],
    minutes: Mapping[str, float],
) -> pd.DataFrame:
    """One row per claim, columns ``COLUMNS``, in the paper's order.

    ours, its interval, n, model, task and source are of the check that speaks least for the claim,
    or of the printed number's counterpart on the paper's model. minutes: of each query's runs.
    """
    rows = [_row(claim, queries, found[claim.claim_id], minutes) for claim in claims]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    numbers = ["ours", "ci_low", "ci_high", "n", "minutes"]
    return frame.astype(dict.fromkeys(numbers, "float64")).astype({"n": "Int64"})


def _row(
    claim: Claim,
    queries: Mapping[str, Query],
    found: Verdict,
    minutes: Mapping[str, float],
) -> dict[str, object]:
    run = any(queries[name].result or queries[name].pending for name in claim.queries)
    asked = claim.queries if found.scope == NONE or found.shown is None else _asked(found)
    spent = [minutes[name] for name in asked if name in minutes]
    needs = "; ".join(filter(None, [claim.need, needed(claim)]))
    reason = found.reason
    if found.scope == NONE:
        reason = f"{reason}; needs {needs}"
    elif found.shown is not None and run:
        reason = f"{reason}; shown: {found.shown.query.says}"
    return {
        "claim_id": claim.claim_id,
        "section": claim.section,
        "claim": claim.text,
        "scope": found.scope,
        "verdict": found.word,
        "published": claim.published,
        **_shown(found.shown),
        "query": " ".join(asked),
        "command": commands(claim, dict(queries)) or _default_command(claim, queries),
        "minutes": max(spent, default=math.nan),
        "reason": reason,
    }


def _asked(found: Verdict) -> Sequence[str]:
    return tuple(dict.fromkeys(check.query.name for check in found.checks))


def _default_command(claim: Claim, queries: Mapping[str, Query]) -> str:
    """What runs the paper's profile, for a claim that waits or is not run; '' if nothing is."""
    waiting = any(queries[name].pending for name in claim.queries)
    runs = waiting or not claim.queries
    return "snakemake --cores 1 --configfile config/paper.yaml" if runs else ""


def _shown(check: Check | None) -> dict[str, object]:
    if check is None:
        return {"model": "", "task": "", "source": "", "tolerance": ""}
    number = check.number
    return {
        "ours": number.estimate.value,
        "ci_low": number.estimate.low,
        "ci_high": number.estimate.high,
        "n": number.estimate.n,
        "model": number.setting.model if number.setting else "",
        "task": number.setting.task if number.setting else "",
        "source": number.source,
        "tolerance": _allowed(check),
    }


def _allowed(check: Check) -> str:
    """The comparison and its limit in one word or two, with the deviation that it allows."""
    if check.target is None:
        return ""
    low, high = check.target.low, check.target.high
    limit = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
    spare = f" ± {check.target.tolerance:.3g}" if check.target.tolerance else ""
    return f"{check.query.comparison.replace('_', ' ')} {limit}{spare}"


def checks(found: Mapping[str, Verdict]) -> pd.DataFrame:
    """Every check behind the verdicts, columns ``CHECK_COLUMNS``: the numbers of all settings."""
    rows = []
    for claim_id, one in found.items():
        for check in one.checks:
            shown = _shown(check)
            target = check.target
            rows.append(
                {name: shown.get(name) for name in CHECK_COLUMNS}
                | {
                    "claim_id": claim_id,
                    "query": check.query.name,
                    "says": check.query.says,
                    "comparison": check.query.comparison,
                    "target_low": target.low if target else math.nan,
                    "target_high": target.high if target else math.nan,
                    "tolerance": target.tolerance if target else math.nan,
                    "outcome": check.outcome,
                }
            )
    return pd.DataFrame(rows, columns=CHECK_COLUMNS).astype({"n": "Int64"})


def word(verdict_text: str) -> str:
    """A verdict without its counts: 'holds' of 'holds (6 of 6 settings)'."""
    return verdict_text.partition(" (")[0]


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """How many claims, and how many different questions, have each verdict, by scope.

    Claims that ask the same queries of the same settings and get the same verdict are one
    question. Columns ``COUNT_COLUMNS``.
    """
    words = frame.assign(verdict=frame["verdict"].map(word))
    alone = words["query"].where(words["query"] != "", words["claim_id"])
    questions = words.assign(query=alone).drop_duplicates(["scope", "verdict", "query"])
    rows = []
    for of, part in (("claims", words), ("questions", questions)):
        sizes = part.groupby(["scope", "verdict"], sort=True).size().reset_index(name="count")
        rows += [(of, *row) for row in sizes.itertuples(index=False)]
    return pd.DataFrame(rows, columns=COUNT_COLUMNS)


def sentences(frame: pd.DataFrame) -> list[str]:
    """The counts in words, one line per scope, and the share of claims that have a verdict."""
    lines = []
    tally = counts(frame)
    for of in ("claims", "questions"):
        own = tally[tally["of"] == of]
        for scope, part in own.groupby("scope", sort=False):
            named = ", ".join(f"{row.count} {row.verdict}" for row in part.itertuples(index=False))
            lines.append(f"{of}, {scope}: {named}")
    judged = int((frame["scope"] != NONE).sum())
    lines.append(f"{judged} of {len(frame)} claims ({judged / len(frame):.1%}) have a verdict")
    return lines
