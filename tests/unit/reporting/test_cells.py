"""Numbers as cells: decimals, signs, powers of ten, intervals, the paper's in grey."""

import pytest

from hvp_patching.reporting.cells import (
    count,
    fixed,
    interval,
    p_value,
    percent,
    points,
    published_number,
    significant,
    with_interval,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [
        (2.974, 2, "2.97"),
        (-0.345, 1, "$-$0.3"),
        (-0.004, 2, "0.00"),
        (100.0, 1, "100.0"),
        (NAN, 2, "--"),
        (None, 2, "--"),
    ],
)
def test_numbers_keep_their_decimals(value, decimals, expected):
    assert fixed(value, decimals) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.345, "$+$0.34"),
        (-12.3, "$-$12.30"),
        (0.0, "0.00"),
        (0.001, "0.00"),
        (-0.001, "0.00"),
        (NAN, "--"),
        (None, "--"),
    ],
)
def test_differences_show_their_sign(value, expected):
    assert points(value) == expected


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0412, "0.041"), (1.0, "1.000"), (0.0001, "$<$0.001"), (NAN, "--"), (None, "--")],
)
def test_p_values(p, expected):
    assert p_value(p) == expected


def test_published_numbers_are_grey_and_absent_ones_empty():
    assert "2.97" in published_number(2.97, 2)
    assert "gray" in published_number(2.97, 2)
    assert "win" in published_number("win")
    assert published_number(NAN) is None
    assert published_number(None) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (0.0012345, r"$1.2\times10^{-3}$"),
        (-0.00999, r"$-1.0\times10^{-2}$"),
        (0.009999, "0.0100"),
        (0.01, "0.0100"),
        (-0.5, "$-$0.500"),
        (9.996, "10.0"),
        (4.917, "4.92"),
        (9876.0, "9{,}876"),
        (1e5, r"$1.0\times10^{5}$"),
        (float("inf"), r"$\infty$"),
        (NAN, "--"),
        (None, "--"),
    ],
)
def test_three_digits(number, text):
    assert significant(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.00"),
        (4.917, "4.92"),
        (-0.001, "0.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (-16.27, "$-$16.3"),
        (1526.4, "1{,}526"),
        (float("-inf"), r"$-$$\infty$"),
        (NAN, "--"),
    ],
)
def test_percent(number, text):
    assert percent(number) == text


def test_intervals_and_counts():
    assert interval(0.5, 12.34) == r"{\scriptsize [0.50, 12.3]}"
    assert interval(NAN, NAN) == ""
    assert (count(1078.0), count(NAN)) == ("1{,}078", "--")
    assert with_interval(percent(5.0), NAN, NAN) == "5.00"
    assert with_interval(percent(5.0), 1.0, 9.0) == r"5.00~{\scriptsize [1.00, 9.00]}"
