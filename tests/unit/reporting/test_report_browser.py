"""The page in a real browser: it opens without a network, is searched, filtered and printed."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from hvp_patching.reporting.page.build import Report, render
from hvp_patching.reporting.page.ledger import COLUMNS, read_ledger

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from browser import chromium  # noqa: E402

VISIBLE = "[...document.querySelectorAll('#ledger tbody tr')].filter(r => !r.hidden).length"


@pytest.fixture
def page_file(tmp_path):
    blank = dict.fromkeys(COLUMNS, "")
    rows = [
        blank | {"claim_id": "C01", "claim": "curvature is local", "verdict": "fails"},
        blank | {"claim_id": "C02", "claim": "five families", "verdict": "follows"},
        blank | {"claim_id": "C03", "claim": "a lost number", "verdict": "not run"},
    ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "claims.csv", index=False)
    texts = dict.fromkeys(("about", "easy", "hard"), "<p>text</p>")
    report = Report(read_ledger(tmp_path / "claims.csv"), [], [], [], [], texts, {})
    path = tmp_path / "report.html"
    path.write_text(render(report, ROOT / "workflow/templates"), encoding="utf-8")
    return path


def test_the_page_opens_is_searched_filtered_and_printed(page_file, tmp_path):
    with chromium(tmp_path / "browser") as page:
        page.open(page_file)
        assert page.run(VISIBLE) == 3
        page.run(
            "search.value = 'families'; search.dispatchEvent(new Event('input', {bubbles: true}))"
        )
        assert page.run(VISIBLE) == 1
        page.run("document.querySelector('.card.not_run').click()")
        assert page.run(VISIBLE) == 1
        assert page.run("document.querySelector('#C03').hidden") is False
        assert page.printed().startswith(b"%PDF")
        page.resize(400)
        assert page.run("document.documentElement.scrollWidth") <= 400
        assert page.messages == []
        assert all(url.startswith(("file:", "data:")) for url in page.requests)
