"""The claims ledger's part of the graph: its data, checked, and the files that its queries read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from analyses import analyses, needs_of, overall
from artefacts import TABLES, load_table, result_files, settings_of
from choices import NEEDS, TOP, n_prompts
from code_inputs import ROOT, project_file
from config_check import Validator
from config_values import check_text, not_finite, odd_values
from grammar import PATHS, SETTING_LOG
from jsonschema.exceptions import ValidationError, best_match
from snakemake.exceptions import WorkflowError

from hvp_patching.claims.reading import (
    Claim,
    ClaimsError,
    Query,
    check_names,
    load_yaml,
    read_claims,
    read_queries,
)
from hvp_patching.failures import shown
from hvp_patching.settings import Setting

Config = Mapping[str, Any]
SCHEMA = ROOT / "workflow" / "schemas" / "queries.schema.yaml"
CLAIMS, SCOPE = "data/published/claims.csv", "data/claims/scope.csv"
QUERIES, SHAPES = "data/claims/queries.yaml", "data/claims/shapes.csv"
# Files of the grammar that are no results of one setting
NOT_READ = ("circuit", "baseline", "comparison", "claims", "claims_checks", "claims_counts")
# The rules that run a model, by what they make: their benchmarks tell the minutes
RUNS = {
    "scores": ("compute_jets",),
    "ranking_scores": ("compute_ranking_jets",),
    "top": ("compute_truth", "compute_top"),
    "hessians": ("compute_truth", "compute_hessians"),
    "sweep": ("compute_truth", "compute_sweep"),
    "convergence_sweep": ("compute_truth", "compute_convergence"),
    "probes": ("compute_probes",),
}
RUNS_OF_PROMPT_LISTS = {
    "faithfulness": ("compute_edges", "compute_faithfulness"),
    "edge_timing": ("compute_edge_timing",),
    "feature_scores": ("compute_features",),
}


def claims_files() -> list[str]:
    """The files of data that queries read: the paper's own numbers, a published circuit."""
    _, queries = _read()
    return [project_file(path) for path in dict.fromkeys(q.file for q in queries.values()) if path]


def claims_options(config: Config) -> dict[str, Any]:
    """The keys of the configuration that change a verdict without changing a result."""
    _, queries = _read()
    keys = [query.config or query.than for query in queries.values()]
    named = {str(key).partition(".")[0] for key in keys}
    return {key: config[key] for key in sorted(named | {"metrics"}) if key in config}


@cache
def _read() -> tuple[list[Claim], dict[str, Query]]:
    check_schema(ROOT / QUERIES)
    return read_claims(ROOT / CLAIMS, ROOT / SCOPE), read_queries(ROOT / QUERIES)


def check_schema(path: Path) -> None:
    """Raise ``ClaimsError`` of one line unless the queries fit their schema."""
    queries = load_yaml(path)
    try:
        check_text(path.read_text(encoding="utf-8"), path.name)
    except ValueError as error:
        raise ClaimsError(str(error)) from None
    for fault in odd_values(queries):
        raise ClaimsError(f"{path.name}: {fault}")
    for key, value in not_finite(queries):
        raise ClaimsError(f"{path.name}: {key} is {value}; it must be a finite number")
    error = best_match(Validator(load_yaml(SCHEMA)).iter_errors(queries))
    if error is not None:
        place = ".".join(map(str, error.absolute_path))
        raise ClaimsError(f"{path.name}: {place or 'the file'}: {_said(error)}")


def _said(error: ValidationError) -> str:
    """The validator's words, with the value cut where it is long."""
    return error.message.replace(repr(error.instance), shown(error.instance)).splitlines()[0][:400]


def claims_queries(config: Config) -> dict[str, Query]:
    """Every query, after checking that claims, queries, results and settings fit together.

    Raises ``WorkflowError`` of one line that names the claim.
    """
    try:
        claims, queries = _read()
        check_names(claims, queries, made(config))
        _check_places(config, claims, queries)
    except ClaimsError as error:
        raise WorkflowError(f"claims: {error}") from None
    return queries


def made(config: Config) -> dict[str, str]:
    """Every result that a rule makes, by name, with that rule."""
    measured = {name: f"measure_{name}" for name in analyses(config)}
    computed = {name: name for name in PATHS if name not in NOT_READ}
    return computed | measured


def _check_places(config: Config, claims: Iterable[Claim], queries: Mapping[str, Query]) -> None:
    shown = {site for name in TABLES for site in load_table(name).reads.values()}
    sites = {*config["sites"], *shown}
    for claim in claims:
        for name in (*claim.queries, *filter(None, [claim.number])):
            query = queries[name]
            for key in (*query.settings, *filter(None, [query.but_not])):
                if key not in config:
                    raise ClaimsError(
                        f"{claim.claim_id}: its query '{name}' asks the settings of '{key}', "
                        "which is no key of the configuration"
                    )
            for site in query.site if query.result else ():
                if site not in sites:
                    raise ClaimsError(
                        f"{claim.claim_id}: its query '{name}' asks the site '{site}', which the "
                        "configuration does not measure"
                    )
            if query.file and not (ROOT / query.file).is_file():
                raise ClaimsError(
                    f"{claim.claim_id}: its query '{name}' reads {query.file}, which is not there"
                )


def evidence_files(config: Config) -> list[dict[str, Any]]:
    """The results behind every query: query, key, setting, site, path and its prompts at most."""
    return list(_evidence(config, claims_queries(config)))


def _evidence(config: Config, queries: Mapping[str, Query]) -> Iterator[dict[str, Any]]:
    for query in queries.values():
        if not query.result or query.pending:
            continue
        without = set(settings_of(config, query.but_not)) if query.but_not else set()
        seen: set[tuple[str, str]] = set()
        for key in query.settings:
            for name in settings_of(config, key, query.all_corruptions):
                parsed = Setting.parse(name)
                for site in query.site:
                    if name in without or (name, site) in seen or not _chosen(query, parsed):
                        continue
                    seen.add((name, site))
                    (path,) = result_files(config, query.result, [name], site)
                    yield {
                        "query": query.name,
                        "key": key,
                        "setting": name,
                        "site": site,
                        "path": path,
                        "n_prompts": _n_prompts(config, query.result, parsed),
                    }


def _chosen(query: Query, setting: Setting) -> bool:
    """Whether a query takes this model and task."""
    return fnmatchcase(setting.model, query.models) and setting.task in (
        query.tasks or (setting.task,)
    )


def _n_prompts(config: Config, result: str, setting: Setting) -> int:
    """The fewest prompts that a result of a setting has for what it is made of."""
    needs = [need for need in NEEDS if need in needs_of(config, result)] or [TOP]
    return min(n_prompts(config, setting.model, setting.task, need) for need in needs)


def timings(config: Config, evidence: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The benchmarks of the runs behind each query; those that are there tell its minutes."""
    known = analyses(config) | overall(config)
    queries = claims_queries(config)
    found: dict[str, dict[str, None]] = {}
    for one in evidence:
        parsed = Setting.parse(one["setting"])
        corruption = parsed.corruption or config["corruptions"][parsed.task]
        of = SETTING_LOG.format(
            model=parsed.model, task=parsed.task, corruption=corruption, site=one["site"]
        )
        paths = found.setdefault(one["query"], {})
        for root in _roots(known, queries[one["query"]].result):
            for rule in RUNS.get(root, ()):
                paths[f"results/timing/{rule}/{of}.tsv"] = None
            for rule in RUNS_OF_PROMPT_LISTS.get(root, ()):
                paths[f"results/timing/{rule}/{of.removesuffix('_' + one['site'])}.tsv"] = None
    return {name: list(paths) for name, paths in found.items()}


def _roots(known: Mapping[str, Any], result: str) -> set[str]:
    """The results that a result is measured on, in the end."""
    if result not in known:
        return {result}
    return set().union(*(_roots(known, name) for name in known[result].reads))
