"""Two runs' files compared: identical, within tolerance, different, missing, new."""

from __future__ import annotations

import math

import pytest

from hvp_patching.reporting.reference.agreement import (
    DIFFERENT,
    IDENTICAL,
    MISSING,
    NEW,
    WITHIN,
    compare,
    distance,
)

TOP = (
    "# profile: embedded; effort: quick\n# models: a, b\n# prompts: a/ioi: 4\n# commit: {commit}\n"
)
OTHER = TOP.format(commit="fedcba (modified)")
ROWS = "model,method,error_pct,n_prompts,verdict,seconds\na,ap,12.5,4,worse,1.5\nb,ap,0.25,4,,2.5\n"


@pytest.fixture
def pair(tmp_path):
    """A reference and a run's file with changes of the text; the agreement of the two."""

    def make(*changes, top=OTHER):
        reference, found = tmp_path / "reference.csv", tmp_path / "found.csv"
        reference.write_text(TOP.format(commit="0123abc") + ROWS)
        text = ROWS
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        found.write_text(top + text)
        return compare("tables/table2.csv", reference, found)

    return make


def test_the_same_cells_are_identical_whatever_the_commit(pair):
    found = pair()
    assert found.verdict == IDENTICAL
    assert list(found.lines()) == ["tables/table2.csv: identical; 2 of measured time not compared"]


def test_a_cell_moved_by_a_thousandth_is_within_tolerance_and_named(pair):
    found = pair(("12.5", "12.5125"))
    assert found.verdict == WITHIN
    (cell,) = found.moved
    assert (cell.row, cell.column) == ("a / ap / 4", "error_pct")
    assert cell.apart == pytest.approx(1e-3, rel=1e-2)
    first, second = found.lines()
    assert first == (
        "tables/table2.csv: within tolerance, 1 of 10 cells, up to 0.001 relative; "
        "2 of measured time not compared"
    )
    assert second == "    error_pct of a / ap / 4: 12.5 → 12.5125"


def test_the_farthest_cells_are_named_and_the_others_counted(pair):
    found = pair(("12.5", "25"), ("0.25", "0.2501"))
    assert list(found.lines()) == [
        "tables/table2.csv: different, 1 of 10 cells, up to 0.5 relative, 1 more within tolerance; "
        "2 of measured time not compared",
        "    error_pct of a / ap / 4: 12.5 → 25",
    ]


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        ("12.5", "25", "error_pct"),
        ("12.5", "-12.5", "error_pct"),
        ("12.5", "12.7", "error_pct"),  # beyond a hundredth
        ("12.5", "", "error_pct"),
        ("12.5", "nan", "error_pct"),
        ("worse", "better", "verdict"),
        ("4,worse", "5,worse", "n_prompts"),  # whole numbers are equal or different
    ],
)
def test_a_cell_that_says_something_else_is_different(pair, old, new, column):
    found = pair((old, new))
    assert found.verdict == DIFFERENT
    if found.off:  # a changed name of a row leaves rows by their place
        assert [cell.column for cell in found.off] == [column]


def test_rounding_beside_the_columns_largest_number_is_within_tolerance(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("method,error\nap,100.0\nig,0.00001\n")
    other.write_text("method,error\nap,100.0\nig,0.00003\n")
    assert compare("x.csv", one, other).verdict == WITHIN
    other.write_text("method,error\nap,100.0\nig,0.01\n")
    assert compare("x.csv", one, other).verdict == DIFFERENT


def test_measured_time_is_not_compared(pair):
    assert pair((",1.5\n", ",9.75\n")).verdict == IDENTICAL


def test_claims_that_rest_on_measured_time_are_not_compared(tmp_path):
    text = "claim_id,ours,verdict,source\nC1,1.5,holds,results/metrics/a/frontier.parquet\n"
    text += "C2,2.5,holds,results/metrics/a/paired.parquet\n"
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text(text)
    other.write_text(text.replace("1.5,holds", "9.5,fails"))
    assert compare("results/claims.csv", one, other).verdict == IDENTICAL
    other.write_text(text.replace("2.5,holds", "2.5,fails"))
    (cell,) = compare("results/claims.csv", one, other).off
    assert (cell.row, cell.column, cell.found) == ("C2", "verdict", "fails")
    assert math.isinf(cell.apart)


def test_rows_in_another_order_are_paired_by_what_they_are(tmp_path):
    rows = ["a,ap,1.5", "a,hvp,2.5", "b,ap,3.5"]
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("\n".join(["model,method,error", *rows]))
    other.write_text("\n".join(["model,method,error", *reversed(rows)]))
    assert compare("x.csv", one, other).verdict == IDENTICAL


def test_rows_without_names_are_paired_by_their_place(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("x,y\n1.5,2.5\n3.5,4.5\n")
    other.write_text("x,y\n1.5,2.5\n3.5,9.5\n")
    (cell,) = compare("x.csv", one, other).off
    assert cell.row == "row 2"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model,error\na,1.5\na,1.5\n", "2 rows, the reference has 1"),
        ("model,error,p\na,1.5,1\n", "columns differ: p"),
        ("error,model\n1.5,a\n", "columns stand in another order"),
    ],
)
def test_another_shape_is_different_and_said(tmp_path, text, why):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("model,error\na,1.5\n")
    other.write_text(text)
    found = compare("x.csv", one, other)
    assert found.verdict == DIFFERENT
    assert list(found.lines()) == [f"x.csv: different ({why})"]


@pytest.mark.parametrize(
    ("old", "new"), [("embedded", "smoke"), ("quick", "standard"), ("a/ioi: 4", "a/ioi: 50")]
)
def test_another_profile_effort_or_prompts_are_different(pair, old, new):
    found = pair(top=TOP.format(commit="0123abc").replace(old, new))
    assert found.verdict == DIFFERENT
    assert new in found.why


def test_a_missing_and_an_extra_file_are_said(tmp_path):
    there = tmp_path / "there.csv"
    there.write_text("a\n1\n")
    assert compare("x.csv", there, tmp_path / "no.csv").verdict == MISSING
    assert compare("x.csv", tmp_path / "no.csv", there).verdict == NEW


@pytest.mark.parametrize(
    ("one", "other", "close"),
    [
        ("0.5 [0.25, 0.75]", "0.5002 [0.25, 0.751]", True),
        ("0.5 [0.25, 0.75]", "0.5 [0.25, 0.95]", False),
        ("holds (5 of 6 settings)", "holds (6 of 6 settings)", False),
        ("1e-3", "1.002e-3", True),
        ("inf", "1e300", False),
        ("", "0", False),
    ],
)
def test_texts_are_compared_number_by_number(one, other, close):
    assert distance(one, other)[1] is close
