"""The ledger's data: what the paper claims, what each claim is judged by, and the queries."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvp_patching.claims.expressions import fault_of
from hvp_patching.failures import no_text, one_line, shown
from hvp_patching.files import read_yaml

# What a claim is, in data/claims/scope.csv
MECHANISM, ANALOGUE, PRINTED, FACT, NOT_RUN = KINDS = (
    *("mechanism", "analogue", "paper_numbers", "definition"),
    "not_run",
)
ONE_MODEL = "analogue"
LONGEST = 1000  # characters of a message
SCOPE_COLUMNS = ("claim_id", "kind", "query", "number", "restated", "need", "reason")
CLAIM_COLUMNS = (
    *("claim_id", "section", "claim", "model", "task", "unit", "comparison"),
    *("paper_value", "paper_value_high", "derived_value", "derived_value_high"),
)


class ClaimsError(ValueError):
    """Data of the ledger that do not fit together; one line, whatever they hold."""

    def __init__(self, message: str) -> None:
        said = " ".join(message.split())
        super().__init__(said if len(said) <= LONGEST else f"{said[:LONGEST]}…")


@dataclass(frozen=True)
class Claim:
    """A statement of the paper (a row of claims.csv) and what judges it (one of scope.csv).

    value and value_high are as printed, else what the paper's tables imply there; decimals are
    those printed. queries are names, number that of the query for the printed number itself.
    """

    claim_id: str
    section: str
    text: str
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    unit: str
    comparison: str
    value: float | None
    value_high: float | None
    decimals: int
    kind: str
    queries: tuple[str, ...]
    number: str
    restated: str
    need: str
    reason: str

    @property
    def published(self) -> str:
        """The published value as the ledger shows it, '' for a direction or a lost number."""
        if self.value is None:
            return ""
        ends = [self.value, *([] if self.value_high is None else [self.value_high])]
        return " to ".join(f"{end:.{self.decimals}f}" for end in ends)


@dataclass(frozen=True)
class Query:
    """Where a number comes from, and what it is compared with (`data/claims/queries.yaml`).

    One of result (of `settings` at `site`), file, fact, config is given; ``pending`` names the
    artefact of a query whose result no rule makes yet, and says no more. share is that of the
    settings in which the statement must hold, 0 for one of them; failing is what a check that
    fails counts as.
    """

    name: str
    says: str
    result: str = ""
    settings: tuple[str, ...] = ()
    but_not: str = ""
    all_corruptions: bool = False
    site: tuple[str, ...] = ("attn_heads",)
    models: str = "*"
    tasks: tuple[str, ...] = ()
    together: bool = False
    artefact: str = ""
    file: str = ""
    fact: str = ""
    config: str = ""
    pending: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    pivot: Mapping[str, Any] = field(default_factory=dict)
    derive: Mapping[str, str] = field(default_factory=dict)
    keep: str = ""
    mean_by: tuple[str, ...] = ()
    statistic: str = "value"
    of: Mapping[str, Any] = field(default_factory=dict)
    interval: str = "prompts"
    scale: float = 1.0
    few_prompts: bool = False
    comparison: str = "agrees"
    than: Any = "published"
    tolerance: float | str = 0.0
    share: float = 1.0
    failing: str = "fails"


LISTS = {"settings", "site", "tasks", "mean_by"}


def load_yaml(path: Path | str) -> Any:
    """The content of a YAML file; ``ClaimsError`` of one line where it is not YAML."""
    try:
        return read_yaml(path)
    except Exception as error:  # dates, numbers and nesting fail in the loader, each in its way
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or one_line(error)
        raise ClaimsError(f"{path}{line}: no YAML: {problem}") from None


def read_queries(path: Path | str) -> dict[str, Query]:
    """Every query by name.

    Raises ``ClaimsError`` for a key that a query does not have, and an expression that says more
    than ``expressions`` allows.
    """
    found: dict[str, Query] = {}
    text = load_yaml(path)
    groups = [text.get(key) or {} for key in ("queries", "pending")] if _mapping(text) else []
    if not groups or not all(map(_mapping, groups)):
        raise ClaimsError(f"{path} has no queries: give 'queries: {{NAME: {{says: …}}}}'")
    for name, parts in {**groups[0], **groups[1]}.items():
        if not isinstance(name, str) or not _mapping(parts):
            raise ClaimsError(f"{path}: {shown(name)} is no query: give 'NAME: {{says: …}}'")
        found[name] = _query(name, parts, f"{path}: query '{name}'")
    return found


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _query(name: str, parts: Mapping[str, Any], where: str) -> Query:
    known = set(Query.__dataclass_fields__) - {"name"}
    unknown = [key for key in parts if key not in known]
    if unknown:
        raise ClaimsError(f"{where} has the unknown key {shown(unknown[0])}")
    named = dict(parts)
    for key in LISTS & parts.keys():
        value = parts[key]
        if not isinstance(value, str | list):
            raise ClaimsError(f"{where}: {key} is {shown(value)}; it must be a name or a list")
        named[key] = (value,) if isinstance(value, str) else tuple(value)
    derived = named.get("derive", {})
    if not _mapping(derived):
        raise ClaimsError(f"{where}: derive is {shown(derived)}; it must be a mapping")
    for expression in (*derived.values(), *filter(None, [named.get("keep")])):
        check_expression(expression, name)
    return Query(name=name, **named)


def check_expression(expression: str, query: str) -> None:
    """Raise ``ClaimsError`` for an expression that says more than ``expressions`` allows."""
    fault = fault_of(expression)
    if fault:
        raise ClaimsError(f"query '{query}': the expression {shown(expression)}: {fault}")


def read_claims(claims: Path | str, scope: Path | str) -> list[Claim]:
    """The claims in the paper's order, each with its row of scope.csv.

    Raises ``ClaimsError`` naming a claim that one of the files lacks or has twice, and a row of an
    unknown kind, without a query, or not run without a need and a reason.
    """
    printed, judged = _rows(claims, CLAIM_COLUMNS), _rows(scope, SCOPE_COLUMNS)
    for path, ours, theirs in ((scope, judged, printed), (claims, printed, judged)):
        absent = [name for name in theirs if name not in ours]
        if absent:
            raise ClaimsError(f"{path} has no row for the claim {absent[0]}: add it")
    return [_claim(row, judged[name]) for name, row in printed.items()]


def _rows(path: Path | str, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    try:
        with Path(path).open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            absent = [name for name in columns if name not in (reader.fieldnames or ())]
            if absent:
                raise ClaimsError(f"{path} has no column '{absent[0]}': add it")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClaimsError(f"{path} cannot be read as CSV in UTF-8: {one_line(error)}") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ClaimsError(f"{path}: row {number} does not fill its columns: quote its commas")
        fault = next(filter(None, map(no_text, row.values())), "")
        if fault:
            raise ClaimsError(f"{path}: row {number} has {fault}: remove it")
        if row["claim_id"] in found:
            raise ClaimsError(f"{path} has the claim {row['claim_id']} twice: remove one")
        found[row["claim_id"]] = row
    return found


def _claim(row: Mapping[str, str], judged: Mapping[str, str]) -> Claim:
    name, kind = row["claim_id"], judged["kind"]
    if kind not in KINDS:
        raise ClaimsError(f"{name} is of the unknown kind '{kind}'; known: {', '.join(KINDS)}")
    queries = tuple(judged["query"].split())
    if kind != NOT_RUN and not queries:
        raise ClaimsError(f"{name} has no query: name one, or say why it is not run")
    if kind == NOT_RUN and not (judged["need"] and judged["reason"]):
        raise ClaimsError(f"{name} is not run: say what it needs, and why")
    text = row["paper_value"] or row["derived_value"]
    high = row["paper_value_high"] if row["paper_value"] else row["derived_value_high"]
    return Claim(
        claim_id=name,
        section=row["section"],
        text=row["claim"],
        models=tuple(filter(None, row["model"].split(";"))),
        tasks=tuple(filter(None, row["task"].split(";"))),
        unit=row["unit"],
        comparison=row["comparison"],
        value=_number(text, name),
        value_high=_number(high, name),
        decimals=len(text.partition(".")[2]),
        kind=kind,
        queries=queries,
        number=judged["number"],
        restated=judged["restated"],
        need=judged["need"],
        reason=judged["reason"],
    )


def _number(text: str, claim: str) -> float | None:
    try:
        found = float(text) if text else None
    except ValueError:
        found = math.nan
    if found is not None and not math.isfinite(found):
        raise ClaimsError(f"{claim}: its value {shown(text)} is no finite number: correct it")
    return found


def check_names(
    claims: Sequence[Claim], queries: Mapping[str, Query], made: Mapping[str, str]
) -> None:
    """Raise ``ClaimsError`` naming the claim whose query, or whose query's file, is not there.

    ``made`` maps every result that some rule makes to that rule.
    """
    for claim in claims:
        for name in (*claim.queries, *filter(None, [claim.number])):
            if name not in queries:
                raise ClaimsError(
                    f"{claim.claim_id} asks the query '{name}', which data/claims/queries.yaml "
                    "does not have: add it"
                )
            query = queries[name]
            if query.pending:
                continue
            sources = [query.result, query.file, query.fact, query.config]
            if sum(map(bool, sources)) != 1:
                raise ClaimsError(
                    f"{claim.claim_id}: its query '{name}' needs one source (a result, file, fact "
                    "or config): give it one"
                )
            if query.result and query.result not in made:
                raise ClaimsError(
                    f"{claim.claim_id}: its query '{name}' reads '{query.result}', which no rule "
                    "makes: correct the name, or mark the query as pending"
                )
            if query.result and not query.settings:
                raise ClaimsError(
                    f"{claim.claim_id}: its query '{name}' says no settings: name a key of the "
                    "configuration"
                )
    used = {name for claim in claims for name in (*claim.queries, claim.number)}
    idle = [name for name in queries if name not in used]
    if idle:
        raise ClaimsError(f"no claim asks the query '{idle[0]}': remove it")
