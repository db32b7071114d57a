"""From outcomes to a verdict, in the words of the scope that the evidence has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hvp_patching.claims.comparisons import FAILS, HOLDS, PRINTED, UNDECIDED, Outcome, judge
from hvp_patching.claims.evidence import Check, Evidence, target_of
from hvp_patching.claims.facts import paper_models
from hvp_patching.claims.reading import ANALOGUE, FACT, NOT_RUN, Claim, Query
from hvp_patching.claims.reading import PRINTED as PRINTED_KIND

Scope = Literal[
    "paper model", "other models", "the paper's own numbers", "definition or fact", "not run"
]
PAPER: Scope = "paper model"
OTHERS: Scope = "other models"
OWN: Scope = "the paper's own numbers"
COMPUTED: Scope = "definition or fact"
NONE: Scope = "not run"
# The verdicts of each scope, without the counts that follow "holds" and "mixed"
VERDICTS: Mapping[Scope, tuple[str, ...]] = {
    PAPER: ("reproduced", "direction reproduced", "contradicted", UNDECIDED),
    OTHERS: ("holds", "mixed", "fails", UNDECIDED),
    OWN: ("follows", "contradicts", UNDECIDED),
    COMPUTED: ("computed: agrees", "computed: differs", UNDECIDED),
    NONE: ("not run",),
}


@dataclass(frozen=True)
class Verdict:
    """A claim's verdict, its scope, every check, and the one that the ledger shows."""

    scope: Scope
    word: str
    reason: str
    checks: tuple[Check, ...] = ()
    shown: Check | None = None


def verdict(claim: Claim, queries: Mapping[str, Query], evidence: Evidence) -> Verdict:
    """What the evidence says about a claim."""
    if claim.kind == NOT_RUN:
        return Verdict(NONE, "not run", claim.reason)
    asked = [queries[name] for name in claim.queries]
    waiting = [query for query in asked if query.pending]
    if waiting:
        named = ", ".join(dict.fromkeys(query.pending for query in waiting))
        return Verdict(NONE, "not run", f"waits for {named}: {waiting[0].says}")
    checks = [check for query in asked for check in evidence.checks(query, claim)]
    if claim.kind in (FACT, PRINTED_KIND):
        return _computed(claim, checks)
    own = _of_claim(claim, checks)
    if own:
        number = [
            check
            for check in _numbers(claim, queries, evidence)
            if check in _matching(claim, [check])
        ]
        return _of_paper_model(claim, asked, own, number)
    others = [check for check in checks if not _is_paper_model(check)] or checks
    if not others:
        return Verdict(NONE, "not run", f"this profile has no setting for it: {asked[0].says}")
    if all(_is_paper_model(check) for check in others) and not claim.models:
        return _of_paper_model(claim, asked, others, [])
    return _of_other_models(claim, asked, others)


def _is_paper_model(check: Check) -> bool:
    return check.number.setting is not None and check.number.setting.model in paper_models()


def _matching(claim: Claim, checks: Sequence[Check]) -> list[Check]:
    """Checks on the claim's own models and tasks."""
    return [
        check
        for check in checks
        if check.number.setting is not None
        and check.number.setting.model in claim.models
        and (not claim.tasks or check.number.setting.task in claim.tasks)
    ]


def _of_claim(claim: Claim, checks: Sequence[Check]) -> list[Check]:
    """Checks on the paper's models: the claim's own, or any where it names none."""
    if claim.models:
        return _matching(claim, checks)
    return [check for check in checks if _is_paper_model(check)]


def _numbers(claim: Claim, queries: Mapping[str, Query], evidence: Evidence) -> list[Check]:
    """The printed number beside ours, by the rule of the claim's own comparison."""
    if not claim.number or claim.comparison not in PRINTED:
        return []
    query = queries[claim.number]
    found = []
    for number in evidence.numbers(query):
        target = target_of(query, claim, {})
        if target is not None:
            outcome = judge(PRINTED[claim.comparison], number.estimate, target)
            found.append(Check(query, number, target, UNDECIDED if number.few else outcome))
    return found


def _of_paper_model(
    claim: Claim, asked: Sequence[Query], checks: list[Check], numbers: list[Check]
) -> Verdict:
    count = Counter(check.outcome for check in checks)
    met = bool(numbers) and all(check.outcome == HOLDS for check in numbers)
    whole = _enough(asked, checks, HOLDS)
    if met and not count[FAILS]:
        word = "reproduced"
    elif whole:
        word = "direction reproduced"
    elif count[FAILS]:
        word = "contradicted"
    else:
        word = UNDECIDED
    shown = numbers[0] if numbers else _weakest(checks)
    return Verdict(PAPER, word, _reason(claim, asked, checks), (*checks, *numbers), shown)


def _of_other_models(claim: Claim, asked: Sequence[Query], checks: list[Check]) -> Verdict:
    count = Counter(check.outcome for check in checks)
    holding, n = count[HOLDS], len(checks)
    what = "settings" if len(asked) == 1 else "checks"
    if _enough(asked, checks, HOLDS):
        word = f"holds ({holding} of {n} {what})"
    elif holding:
        word = f"mixed ({holding} of {n} {what})"
    else:
        word = FAILS if count[FAILS] else UNDECIDED
    return Verdict(OTHERS, word, _reason(claim, asked, checks), tuple(checks), _weakest(checks))


def _computed(claim: Claim, checks: list[Check]) -> Verdict:
    count = Counter(check.outcome for check in checks)
    scope = COMPUTED if claim.kind == FACT else OWN
    agrees, differs, open_ = VERDICTS[scope]
    word = differs if count[FAILS] else open_ if count[UNDECIDED] else agrees
    reason = claim.reason
    if word == open_ and not reason:
        said = next(check.query.says for check in checks if check.outcome == UNDECIDED)
        reason = f"neither shown nor excluded: {said}"
    return Verdict(scope, word, reason, tuple(checks), _weakest(checks))


def _enough(asked: Sequence[Query], checks: Sequence[Check], outcome: Outcome) -> bool:
    """Whether every query that has settings has the outcome in its share of them, one at least."""
    by_query = [[c.outcome for c in checks if c.query.name == query.name] for query in asked]
    return all(
        own.count(outcome) >= max(1, math.ceil(query.share * len(own) - 1e-9))
        for query, own in zip(asked, by_query, strict=True)
        if own
    )


ORDER = {FAILS: 0, UNDECIDED: 1, HOLDS: 2}


def _weakest(checks: Sequence[Check]) -> Check | None:
    """The check that speaks least for the claim, the first of several."""
    return min(checks, key=lambda check: ORDER[check.outcome], default=None)


def _reason(claim: Claim, asked: Sequence[Query], checks: Sequence[Check]) -> str:
    """Whether it is an analogue, what was tested where it failed, and how many say what."""
    count = Counter(check.outcome for check in checks)
    counted = ", ".join(
        f"{count[outcome]} {word}"
        for outcome, word in ((HOLDS, "hold"), (FAILS, "fail"), (UNDECIDED, "undecided"))
        if count[outcome]
    )
    tested = {check.query.name for check in checks}
    untested = [query.says for query in asked if query.name not in tested]
    few = [check.number.estimate.n for check in checks if check.number.few]
    parts = [
        f"analogue: {claim.restated}" if claim.kind == ANALOGUE else claim.restated,
        counted,
        f"not tested in this profile: {', '.join(untested)}" if untested else "",
        f"too few prompts to decide (n = {min(n for n in few if n is not None)})" if few else "",
        claim.reason,
    ]
    return "; ".join(part.rstrip(".") for part in parts if part)
