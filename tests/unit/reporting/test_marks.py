"""Signs of better and worse, and what the notes say of them."""

import pandas as pd
import pytest

from hvp_patching.reporting.marks import MARKS, marked_p, marks_notes, sign


@pytest.mark.parametrize(
    ("mark", "survives", "text"),
    [
        ("better", False, r"$^{\star}$"),
        ("better", True, r"$^{\star\star}$"),
        ("worse", False, r"$^{\circ}$"),
        ("worse", True, r"$^{\circ\circ}$"),
        ("none", False, ""),
    ],
)
def test_a_sign_is_doubled_where_it_survives(mark, survives, text):
    assert sign(mark, survives) == text


ROW = {"p": 0.002, "verdict": "win", "decidable": True}


def test_no_p_is_printed_where_no_test_can_decide():
    assert marked_p(ROW) == r"0.002\rlap{$^{\star}$}"
    assert marked_p(ROW | {"survives": True}) == r"0.002\rlap{$^{\star\star}$}"
    assert marked_p(ROW | {"p": 0.3, "verdict": "tie"}) == "0.300"
    assert marked_p(ROW | {"verdict": "undecided", "decidable": False}) == "--"
    assert marked_p({}) == "--"


def test_every_verdict_has_a_mark_or_none():
    assert set(MARKS) == {"win", "loss", "tie", "undecided"}
    assert MARKS["undecided"] == MARKS["tie"] == "none"


def test_the_notes_say_which_mark_is_which_and_what_stays_undecided():
    marked = pd.DataFrame({"decidable": [True, True, False]})
    what, few = marks_notes(marked, "AP")
    assert r"worse than AP at raw $p < 0.05$" in what
    assert (
        r"Benjamini--Hochberg at 5\% over all comparisons of the table that can be decided (2)"
        in what
    )
    assert "1 of 3 comparisons" in few
    assert len(marks_notes(marked[:2], "AP")) == 1
