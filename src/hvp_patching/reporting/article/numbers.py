"""Numbers of a run as LaTeX macros: the only ones that the paper's text may say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import pandas as pd

from hvp_patching.reporting.latex import escape
from hvp_patching.reporting.page.build import spoken_minutes
from hvp_patching.reporting.page.exhibits import comment_lines, devices_of
from hvp_patching.reporting.page.ledger import OUTCOMES, outcome_of
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.run_record import Run

NOT_RUN = "not run"
# scope of the evidence -> its part of a macro's name
SCOPES = MappingProxyType(
    {
        "paper model": "PaperModel",
        "other models": "OtherModels",
        "the paper's own numbers": "OwnNumbers",
        "definition or fact": "Definition",
        NOT_RUN: "NotRun",
    }
)
KINDS = MappingProxyType({"claims": "Claims", "questions": "Questions"})
# verdict of a check of the paper's own numbers -> its macro
CHECKS = MappingProxyType(
    {
        "contradiction": "NumContradictions",
        "mismatch": "NumMismatches",
        "tension": "NumTensions",
    }
)
MACRO = re.compile(r"^\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}$", re.M)


def outcome_word(outcome: str) -> str:
    """An outcome's part of a macro's name: 'NotRun' of 'not_run'."""
    return outcome.title().replace("_", "")


def verdict_numbers(counts: pd.DataFrame) -> dict[str, str]:
    """How many claims and questions came to what, in all and by scope, by the macro's name.

    counts: results/claims_counts.csv. \\NumClaims are all claims, \\NumClaimsHolds those that
    hold, \\NumClaimsOtherModelsHolds those of one scope; \\NumQuestions… likewise. \\EvidenceShare
    is the percentage of claims that are not 'not run'. Raises ``ReportError`` for a scope or
    verdict that has no name, and where there are no claims.
    """
    unknown = [scope for scope in dict.fromkeys(counts["scope"]) if scope not in SCOPES]
    if unknown:
        raise ReportError(f"the ledger counts the scope '{unknown[0]}'; known: {', '.join(SCOPES)}")
    found: dict[str, str] = {}
    for of, kind in KINDS.items():
        part = counts[counts["of"] == of]
        outcomes = part["verdict"].map(outcome_of)
        found[f"Num{kind}"] = _count(part["count"])
        for outcome in OUTCOMES:
            word, own = outcome_word(outcome), outcomes == outcome
            found[f"Num{kind}{word}"] = _count(part.loc[own, "count"])
            for scope, name in SCOPES.items():
                here = own & (part["scope"] == scope)
                found[f"Num{kind}{name}{word}"] = _count(part.loc[here, "count"])
        for scope, name in SCOPES.items():
            found[f"Num{kind}{name}All"] = _count(part.loc[part["scope"] == scope, "count"])
    claims = counts[counts["of"] == "claims"]
    n, untested = claims["count"].sum(), claims.loc[claims["scope"] == NOT_RUN, "count"].sum()
    if n == 0:
        raise ReportError("the ledger counts no claims: make results/claims.csv again")
    found["EvidenceShare"] = f"{100 * (n - untested) / n:.1f}"
    return found


def comparison_numbers(comparison: pd.DataFrame) -> dict[str, str]:
    """How many published cells of tables there are, and how many have ours beside them."""
    beside = int(comparison["ours"].notna().sum())
    n = len(comparison)
    counts = {"NumCells": n, "NumCellsBeside": beside, "NumCellsWithout": n - beside}
    return {name: str(count) for name, count in counts.items()}


def check_numbers(checks: pd.DataFrame) -> dict[str, str]:
    """How many of the paper's own numbers were checked against each other, and how many fail."""
    verdicts = checks["verdict"]
    counts = {name: int((verdicts == word).sum()) for word, name in CHECKS.items()}
    return {"NumChecks": str(len(checks))} | {name: str(n) for name, n in counts.items()}


def run_facts(paths: Iterable[str], run: Run) -> dict[str, str]:
    """Models, devices, packages, commits and time behind artefacts, from their CSV files."""
    paths = list(paths)
    facts = [comment_lines(path) for path in paths]

    def named(key: str, parts: str = "; ") -> str:
        words = (word for fact in facts for word in fact.get(key, "").split(parts))
        return ", ".join(dict.fromkeys(word for word in words if word not in ("", "none")))

    devices = (devices_of(fact.get("environments", "")) for fact in facts)
    return {
        "Models": named("models", ", "),
        "Packages": named("packages", ", "),
        "Commits": ", ".join(dict.fromkeys(_short(fact.get("commit", "")) for fact in facts)),
        "Hardware": "; ".join(dict.fromkeys(filter(None, devices))) or "not recorded",
        "TimeAll": spoken_minutes(run.minutes(*paths)),
    }


def macros(numbers: Mapping[str, str], header: str) -> str:
    """Each number as a macro of its name, below a header comment.

    Raises ``ReportError`` for a name that LaTeX does not take.
    """
    lines = []
    for name, value in numbers.items():
        if not name.isascii() or not name.isalpha():
            raise ReportError(f"'{name}' can be no macro: letters alone")
        lines.append(rf"\newcommand{{\{name}}}{{{escape(value)}}}")
    return header + "\n".join(lines) + "\n"


def read_macros(text: str) -> dict[str, str]:
    """The macros of a file that ``macros`` made, by name."""
    return dict(MACRO.findall(text))


def _count(column: pd.Series) -> str:
    return str(int(column.sum()))


def _short(commit: str) -> str:
    """A commit's first ten digits, with its '(modified)'."""
    digits, _, mark = commit.partition(" ")
    return f"{digits[:10]} {mark}".strip() or "unknown"
