"""The report's parts: LaTeX as HTML, verdicts as outcomes, the page and its links."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hvp_patching.reporting.html import fragment
from hvp_patching.reporting.inline import to_html
from hvp_patching.reporting.latex import Block, Span, Tabular, Tex
from hvp_patching.reporting.page.build import Report, render
from hvp_patching.reporting.page.contradictions import named_in
from hvp_patching.reporting.page.ledger import (
    COLUMNS,
    outcome_of,
    read_ledger,
    tally,
    tally_queries,
)
from hvp_patching.reporting.results import ReportError

TEMPLATES = Path(__file__).resolve().parents[3] / "workflow/templates"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        (Tex(r"\textbf{0.05}"), "<b>0.05</b>"),
        (Tex("1{,}000 -- a~b"), "1,000 – a\u00a0b"),
        (Tex("$-$3.2"), "−3.2"),
        (Tex(r"$R_3$"), '<span class="math"><i>R</i><sub>3</sub></span>'),
    ],
)
def test_latex_of_cells_becomes_html(text, html):
    assert to_html(text) == html


@pytest.mark.parametrize("text", [r"\unheard{of}", "{open", "$open", "closed}"])
def test_latex_without_html_is_refused(text):
    with pytest.raises(ReportError, match="no HTML for"):
        to_html(Tex(text))


def test_a_grid_keeps_its_spans_blocks_and_alignment():
    grid = Tabular([["", Span("both", 2)]], [Block("part"), ["x", 1, None]], "@{}lrr@{}")
    html = fragment([grid], ["a note"])
    assert '<th class="c span" colspan="2">both</th>' in html
    assert '<tr class="block"><th colspan="3">part</th></tr>' in html
    assert '<td>x</td><td class="r">1</td><td class="r"></td>' in html
    assert '<p class="notes">a note</p>' in html


def ledger(tmp_path, *verdicts):
    rows = [
        dict.fromkeys(COLUMNS, "") | {"claim_id": f"C{i:02}", "query": "q", "verdict": verdict}
        for i, verdict in enumerate(verdicts)
    ]
    path = tmp_path / "claims.csv"
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)
    return path


def test_verdicts_are_counted_by_claim_and_by_query(tmp_path):
    entries = read_ledger(ledger(tmp_path, "holds (6 of 6 settings)", "fails", "not run"))
    assert [entry.outcome for entry in entries] == ["holds", "fails", "not_run"]
    assert tally(entries) == {"holds": 1, "mixed": 0, "fails": 1, "undecided": 0, "not_run": 1}
    assert tally_queries(entries)["mixed"] == 1


def test_an_unknown_verdict_and_a_claim_twice_are_refused(tmp_path):
    with pytest.raises(ReportError, match="the verdict 'perhaps'"):
        outcome_of("perhaps")
    path = ledger(tmp_path, "holds")
    pd.concat([pd.read_csv(path)] * 2).to_csv(path, index=False)
    with pytest.raises(ReportError, match="C00 twice"):
        read_ledger(path)


def test_tables_and_figures_are_read_off_a_text():
    assert named_in("Tables 11, 12 and 2: against Figure 3") == [
        "table11",
        "table12",
        "table2",
        "figure3",
    ]


def test_the_page_has_every_claim_and_needs_no_network(tmp_path):
    entries = read_ledger(ledger(tmp_path, "holds", "fails"))
    texts = dict.fromkeys(("about", "easy", "hard"), "<p>text</p>")
    html = render(Report(entries, [], [], [], [], texts, {}), TEMPLATES)
    assert html.count('data-verdict="holds" data-scope') == 1
    assert 'id="C01"' in html
    assert "http" not in html
