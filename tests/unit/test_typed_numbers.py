"""README and docs: a measured number stands in a generated piece, never typed by hand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hvp_patching.reporting.reference.snippets import BLOCK, fill, pieces
from hvp_patching.reporting.results import ReportError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from write_snippets import pages  # noqa: E402

PAGES = {path.relative_to(ROOT).as_posix(): path for path in [*pages(), ROOT / "CONTRIBUTING.md"]}
# code, links' targets, comments and headings' anchors say no result
SILENT = re.compile(r"^```.*?^```$|`[^`\n]*`|<!--.*?-->|\]\([^)\s]*\)", re.M | re.S)
UNITS = (
    r"%|percent\b|pp\b|percentage points?|ms\b|s\b|seconds?\b|min\b|minutes?\b|h\b|hours?\b|"
    r"days?\b|kB\b|MB\b|GB\b|TB\b|KiB\b|MiB\b|GiB\b|TiB\b|nats?\b|times\b|-?fold\b|FLOPs?\b"
)
MEASURED = re.compile(
    rf"(?<![\w.])\d[\d,.]*(?:[eE][-+]?\d+)?(?:\s?(?:–|-|to|and|→)\s?\d[\d,.]*)?"
    rf"(?:[ \u00a0]?(?:{UNITS})|(?:×|x\b)(?!\s?\d))"
)
# what is no measurement of ours: the phrase as it stands there, and why
ALLOWED = {
    "README.md": {
        "5 minutes": "a budget",
        "30 minutes": "a budget",
        "3 hours": "a budget",
        "48 GiB": "a requirement",
        "10%": "a limit: checking.check",
    },
    "docs/circuits.md": {"50%": "a definition", "100%": "a definition"},
    "docs/claims.md": {"95%": "a definition"},
    "docs/command_line.md": {"95%": "a definition"},
    "docs/reading.md": {
        "63.91%": "the paper's",
        "4.3%": "the paper's",
        "4.0%": "the paper's",
        "82.4%": "the paper's",
        "95.0%": "the paper's",
    },
    "docs/security.md": {"20 times": "a limit: wheels", "256 MiB": "a limit: GGUF headers"},
    "docs/sets.md": {"100%": "a definition"},
    "docs/spectrum.md": {"10%": "a definition"},
    "docs/trust.md": {"10%": "a limit: checking.check"},
}


def measured(text: str) -> list[str]:
    """Numbers with a unit in running text."""
    return [match[0] for match in MEASURED.finditer(SILENT.sub(" ", BLOCK.sub(" ", text)))]


@pytest.mark.parametrize("name", PAGES)
def test_no_measured_number_is_typed(name):
    allowed = ALLOWED.get(name, {})
    found = measured(PAGES[name].read_text(encoding="utf-8"))
    typed = [number for number in found if number not in allowed]
    assert not typed, f"{name}: write these by a generated piece (write_snippets.py): {typed}"
    # an exception that has nothing to except is dropped
    assert set(allowed) <= set(found)


def test_what_is_said_to_be_the_papers_is_printed_there():
    published = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "data/published").glob("*.csv")
    )
    for phrases in ALLOWED.values():
        for phrase, why in phrases.items():
            if why == "the paper's":
                for number in re.findall(r"[\d.]+", phrase):
                    assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", published), number


@pytest.mark.parametrize(
    "text",
    [
        "took 28 minutes",
        "2.7 GB of memory",
        "is 12.5% of it",
        "AP's error is 25 percent",
        "20 times faster",
        "20× faster",
        "25x",
        "within 1.5 s",
        "5–10 minutes",
        "falls to 4.0% here",
        "by 3 pp",
        "0.45 nats",
        "1e-3 s",
    ],
)
def test_a_typed_number_is_found(text):
    assert len(measured(f"It {text}, as one sees.")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "`--cores 2` for 5 prompts, n = 3, ρ > 0.5, 377 claims in 2026, Python 3.11",
        "```\nsleep 5 s\n```",
        "<!-- generated: budgets -->\n3 minutes\n<!-- end -->",
        "L4H11, Table 2, figures 3 to 5, 9B parameters, a 3 × 4 grid of 2 x n",
        "[the page](docs/5%20s.md)",
    ],
)
def test_what_is_no_measurement_is_left_alone(text):
    assert measured(text) == []


@pytest.mark.parametrize("name", [name for name in PAGES if "CONTRIB" not in name])
def test_generated_pieces_are_those_of_the_committed_reference(name):
    """`python workflow/write_snippets.py` would change nothing."""
    text = PAGES[name].read_text(encoding="utf-8")
    assert fill(text, pieces(ROOT), name) == text


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("README.md", ["gallery", "budgets", "verdicts"]),
        ("docs/reading.md", ["reference", "errors"]),
    ],
)
def test_every_page_has_the_pieces_that_are_its(name, has):
    names = [match[2] for match in BLOCK.finditer(PAGES[name].read_text(encoding="utf-8"))]
    assert names == has
    assert set(names) <= set(pieces(ROOT))


def test_an_unknown_piece_and_a_lonely_mark_are_refused():
    with pytest.raises(ReportError, match="nothing makes the piece 'wish'"):
        fill("<!-- generated: wish -->\n<!-- end -->\n", {"gallery": ""})
    for text in ("<!-- generated: gallery -->\nx\n", "x\n<!-- end -->"):
        with pytest.raises(ReportError, match="has no partner"):
            fill(text, {"gallery": ""})


def test_a_piece_is_replaced_and_stays_replaced():
    text = "a\n<!-- generated: gallery -->\nold\n<!-- end -->\nb\n"
    once = fill(text, {"gallery": "new"})
    assert once == text.replace("old", "new")
    assert fill(once, {"gallery": "new"}) == once
