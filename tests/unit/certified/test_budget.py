"""Budgets as users write them, and what a meter lets pass."""

import math

import pytest

from hvp_patching.certified.budget import Allowance, Budget, Meter


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (200, Budget(passes=200)),
        (200.0, Budget(passes=200)),
        ("200", Budget(passes=200)),
        ("200 passes", Budget(passes=200)),
        (" 1 Pass ", Budget(passes=1)),
        ("60s", Budget(seconds=60)),
        ("1.5 s", Budget(seconds=1.5)),
        ("2min", Budget(seconds=120)),
        ("90 seconds", Budget(seconds=90)),
        (Budget(seconds=3), Budget(seconds=3)),
    ],
)
def test_what_is_meant_is_read(given, expected):
    assert Budget.parse(given) == expected


@pytest.mark.parametrize("given", ["", "much", "60 h", "s", "-3", "1,000", None, True, [1], "nan"])
def test_what_is_no_budget_is_named(given):
    with pytest.raises(ValueError, match=r"^the budget is .*; give forward passes") as raised:
        Budget.parse(given)
    assert repr(given) in str(raised.value)


@pytest.mark.parametrize("given", [0, -1, "0s", math.inf, math.nan, "1e999 s"])
def test_nothing_and_everything_are_no_budgets(given):
    with pytest.raises(ValueError, match="must be above 0 and finite"):
        Budget.parse(given)


def test_half_a_pass_is_refused():
    with pytest.raises(ValueError, match=r"budget 10\.5 must be a whole number of passes"):
        Budget.parse(10.5)


def test_passes_are_counted():
    meter = Meter(Budget(passes=25))
    meter.pay(5, "the scores")
    allowance = Allowance(meter, rows=3)
    assert allowance.left() == 6
    allowance.patched(4, seconds=1.0)
    assert meter.passes == 17
    assert allowance.left() == 2
    assert Allowance(meter, rows=1, share=0.5).left() == 4
    with pytest.raises(ValueError, match="of 25 passes does not pay a hat, which takes 30 passes"):
        meter.pay(13, "a hat")


def test_seconds_are_measured():
    now = [100.0]
    meter = Meter(Budget(seconds=10), clock=lambda: now[0])
    now[0] = 102.0
    meter.pay(10**6, "the scores")  # passes are free where time is money
    allowance = Allowance(meter, rows=1, share=0.5)
    assert allowance.left() is None  # nobody knows yet
    now[0] = 103.0
    allowance.patched(10, seconds=1.0)
    assert allowance.left() == 30  # three of its four seconds are left
    now[0] = 106.5
    assert allowance.left() == 0
    now[0] = 110.0
    with pytest.raises(ValueError, match="of 10 s was spent on the scores, which took 10 s"):
        meter.check_time("the scores")
