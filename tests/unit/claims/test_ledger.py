"""The ledger: every claim, its columns, its words, and how many have a verdict."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from hvp_patching.claims.ledger import (
    COLUMNS,
    checks,
    counts,
    ledger,
    sentences,
    verdicts,
    word,
)
from hvp_patching.claims.reading import NOT_RUN
from hvp_patching.claims.typeset import longtable
from hvp_patching.claims.verdicts import NONE, OTHERS, VERDICTS
from hvp_patching.reporting.provenance import collect_provenance


@pytest.fixture(scope="module")
def found(claims, queries, evidence):
    return verdicts(list(claims.values()), queries, evidence)


@pytest.fixture(scope="module")
def frame(claims, queries, found):
    return ledger(list(claims.values()), queries, found, {})


def test_every_claim_has_one_row_in_the_order_of_the_paper(frame, claims):
    assert list(frame.columns) == COLUMNS
    assert list(frame["claim_id"]) == [f"C{n:02d}" for n in range(1, 378)] == list(claims)


def test_verdicts_are_those_of_their_scope(frame):
    for row in frame.itertuples():
        assert word(row.verdict) in VERDICTS[row.scope], row.claim_id
        assert re.fullmatch(r"[a-z :]+( \(\d+ of \d+ (settings|checks)\))?", row.verdict)


def test_most_claims_have_a_verdict_once_waiting_results_are_there(frame, claims, queries, found):
    waiting = [
        name
        for name, claim in claims.items()
        if found[name].scope == NONE and claim.kind != NOT_RUN
    ]
    assert all(any(queries[q].pending for q in claims[name].queries) for name in waiting)
    judged = int((frame["scope"] != NONE).sum())
    print(f"{judged} of 377 claims ({judged / 377:.1%}), {len(waiting)} wait for results")
    assert (judged + len(waiting)) / 377 >= 0.85


def test_what_is_not_run_says_need_command_and_reason(frame):
    for row in frame[frame["scope"] == NONE].itertuples():
        assert "needs " in row.reason, row.claim_id
        assert "GPU hours" in row.reason, row.claim_id
        assert row.command.startswith("snakemake"), row.claim_id


def test_evidence_of_other_models_is_marked_as_an_analogue(frame, claims):
    for row in frame[frame["scope"] == OTHERS].itertuples():
        analogue = claims[row.claim_id].kind == "analogue"
        assert row.reason.startswith("analogue: ") == analogue, row.claim_id
        assert all([row.source, row.query, row.command, row.tolerance]), row.claim_id


def test_every_number_behind_a_verdict_is_listed(found):
    table = checks(found)
    named = {name for name, one in found.items() if one.scope != NONE}
    assert set(table["claim_id"]) == named
    assert table["ours"].notna().mean() > 0.95


def test_counts_add_up_to_the_claims_and_questions_count_once(frame):
    table = counts(frame)
    sums = table.groupby("of")["count"].sum()
    assert sums["claims"] == 377
    assert sums["questions"] < 300
    judged = int((frame["scope"] != NONE).sum())
    *by_scope, last = sentences(frame)
    assert last.startswith(f"{judged} of 377 claims (")
    numbers = [int(n) for line in by_scope for n in re.findall(r"(\d+) [a-z]", line)]
    assert sum(numbers) == 377 + sums["questions"]


def test_the_table_names_every_claim_and_escapes_words(frame):
    text = longtable(frame, collect_provenance("smoke", "quick"))
    assert all(f"\n{name} & " in text for name in frame["claim_id"])
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 1
    assert "ms_hvp" not in text.replace(r"ms\_hvp", "")


def test_the_ledger_reads_back_from_csv(frame, tmp_path):
    from hvp_patching.reporting.provenance import csv_text

    path = tmp_path / "claims.csv"
    path.write_text(csv_text(frame, collect_provenance("smoke", "quick")))
    again = pd.read_csv(path, comment="#")
    assert list(again.columns) == COLUMNS
    assert len(again) == 377
