"""The ledger's data: schema, names, and one line for every mistake, which names the claim."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from snakemake.exceptions import WorkflowError

ROOT = Path(__file__).resolve().parents[3]

import claims_inputs  # noqa: E402
import yaml  # noqa: E402

from hvp_patching.claims.facts import FACTS, heads, layers, width  # noqa: E402
from hvp_patching.claims.reading import (  # noqa: E402
    KINDS,
    ClaimsError,
    check_names,
    load_yaml,
    read_claims,
    read_queries,
)
from hvp_patching.claims.statistics import STATISTICS  # noqa: E402

CLAIMS, SCOPE = ROOT / "data/published/claims.csv", ROOT / "data/claims/scope.csv"
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_all_claims_are_covered(claims, queries):
    assert len(claims) == 377
    assert {claim.kind for claim in claims.values()} == set(KINDS)
    claims_inputs.claims_queries(CONFIG)


def test_statistics_of_the_schema_are_those_of_the_code():
    schema = load_yaml(claims_inputs.SCHEMA)
    listed = schema["$defs"]["query"]["properties"]["statistic"]["enum"]
    assert sorted(listed) == sorted(STATISTICS)


def test_every_fact_that_is_asked_is_there(queries):
    asked = {query.fact for query in queries.values() if query.fact}
    assert asked <= set(FACTS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"statistic": "avarage"}, "top5: 'avarage' is not one of"),
        ({"comparison": "smaller"}, "'smaller' is not one of"),
        ({"tolerance": "a bit"}, "tolerance"),
        ({"sites": "attn_heads"}, "'sites' was unexpected"),
        ({"artefact": None}, "artefact"),
    ],
)
def test_the_schema_says_what_is_wrong_in_one_line(tmp_path, change, said):
    query = {"says": "x", "result": "errors", "settings": "table2", "artefact": "table2"} | change
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"queries": {"top5": query}}))
    with pytest.raises(ClaimsError) as error:
        claims_inputs.check_schema(path)
    assert said.split(": ")[-1] in one_line(error)


def test_what_is_no_yaml_is_said_in_one_line(tmp_path):
    path = tmp_path / "queries.yaml"
    path.write_text("queries: {a: {says: [}}")
    with pytest.raises(ClaimsError) as error:
        read_queries(path)
    assert "line 1: no YAML" in one_line(error)


@pytest.fixture
def scope_with(tmp_path):
    """scope.csv with one cell changed, or a row taken out."""

    def make(claim: str, column: str = "", value: str = "") -> Path:
        with SCOPE.open(encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        rows = [
            row | ({column: value} if row["claim_id"] == claim and column else {})
            for row in rows
            if column or row["claim_id"] != claim
        ]
        path = tmp_path / "scope.csv"
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return make


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("", "", "no row for the claim C99"),
        ("query", "", "C99 has no query"),
        ("kind", "rumour", "C99 is of the unknown kind 'rumour'"),
        ("kind", "not_run", "C99 is not run: say what it needs"),
    ],
)
def test_a_claim_without_its_data_is_named(scope_with, column, value, said):
    with pytest.raises(ClaimsError) as error:
        read_claims(CLAIMS, scope_with("C99", column, value))
    assert said in one_line(error)


def test_a_claim_whose_query_is_unknown_is_named(scope_with, queries):
    claims = read_claims(CLAIMS, scope_with("C99", "query", "top5"))
    with pytest.raises(ClaimsError, match="C99 asks the query 'top5'"):
        check_names(claims, queries, claims_inputs.made(CONFIG))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"result": "top_erors"}, "C99.*'top_erors', which no rule makes"),
        ({"result": ""}, "C99.*needs one source"),
        ({"settings": ()}, "C99.*says no settings"),
        ({"settings": ("tabel2",)}, "C99.*'tabel2', which is no key"),
        ({"site": ("heads",)}, "C99.*site 'heads'"),
    ],
)
def test_a_query_without_a_file_or_a_rule_is_named(monkeypatch, claims, queries, change, said):
    name = claims["C99"].queries[0]
    changed = queries | {name: replace(queries[name], **change)}
    monkeypatch.setattr(claims_inputs, "_read", lambda: (list(claims.values()), changed))
    with pytest.raises(WorkflowError, match=said):
        claims_inputs.claims_queries(CONFIG)


def test_an_idle_query_is_named(claims, queries):
    changed = queries | {"idle": replace(queries["top5_hvp_vs_ap"], name="idle")}
    with pytest.raises(ClaimsError, match="no claim asks the query 'idle'"):
        check_names(list(claims.values()), changed, claims_inputs.made(CONFIG))


def test_shapes_are_those_of_the_papers_table():
    with (ROOT / "data/published/table01.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            model = row["model"]
            assert layers(model) == int(row["n_layers"])
            assert heads(model) == int(row["n_layers"]) * int(row["n_heads"])
            assert width(model) == int(row["d_model"])


def test_nothing_is_computed_for_the_ledger_alone(queries):
    """It reads results; what runs a model is asked for by tables and figures."""
    runs = {
        "truth",
        "jets",
        "ranking_jets",
        "top",
        "hessians",
        "sweep",
        "costs",
        "attention",
        "roles",
    }
    assert not runs & {query.result for query in queries.values()}
