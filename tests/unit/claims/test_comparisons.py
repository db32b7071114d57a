"""One rule per comparison: changing the number flips the outcome."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from hvp_patching.claims.comparisons import (
    COMPARISONS,
    DIRECTIONS,
    PRINTED,
    Estimate,
    Target,
    judge,
)

ROOT = Path(__file__).resolve().parents[3]
LIMIT = Target(1.0, 1.0)
CASES = [
    ("below", LIMIT, (0.5, 0.2, 0.9), (1.5, 1.1, 2.0), (0.9, 0.5, 1.2)),
    ("above", LIMIT, (1.5, 1.1, 2.0), (0.5, 0.2, 0.9), (1.1, 0.5, 1.2)),
    ("at_most", Target(1.0, 1.0, 0.1), (1.0, 0.9, 1.1), (1.5, 1.2, 2.0), (1.0, 0.5, 1.2)),
    ("at_least", Target(1.0, 1.0, 0.1), (1.0, 0.9, 1.1), (0.5, 0.2, 0.8), (1.0, 0.8, 1.2)),
    ("not_above", LIMIT, (1.0, 0.9, 1.1), (1.5, 1.2, 2.0), None),
    ("ties", LIMIT, (1.0, 0.9, 1.1), (1.5, 1.2, 2.0), None),
    ("near", Target(1.0, 1.0, 0.2), (1.0, 0.9, 1.1), (1.5, 1.3, 2.0), (1.0, 0.5, 1.1)),
    ("agrees", Target(1.0, 1.0, 0.2), (0.5, 0.3, 1.1), (1.5, 1.3, 2.0), None),
]


def test_every_rule_is_tried():
    assert {case[0] for case in CASES} == set(COMPARISONS)


@pytest.mark.parametrize(("name", "target", "holds", "fails", "open_"), CASES)
def test_changing_the_number_flips_the_outcome(name, target, holds, fails, open_):
    rule = COMPARISONS[name]
    assert judge(rule, Estimate(*holds), target) == "holds"
    assert judge(rule, Estimate(*fails), target) == "fails"
    if open_ is not None:
        assert judge(rule, Estimate(*open_), target) == "undecided"


@pytest.mark.parametrize("name", COMPARISONS)
def test_what_is_not_defined_decides_nothing(name):
    assert judge(COMPARISONS[name], Estimate(math.nan), LIMIT) == "undecided"


@pytest.mark.parametrize("name", ["below", "above"])
def test_equality_without_an_interval_decides_nothing(name):
    assert judge(COMPARISONS[name], Estimate(1.0), LIMIT) == "undecided"


def test_a_range_is_met_anywhere_inside():
    target = Target(5.1, 60.3)
    assert judge(COMPARISONS["agrees"], Estimate(30.0), target) == "holds"
    assert judge(COMPARISONS["agrees"], Estimate(61.0), target) == "fails"
    assert judge(COMPARISONS["near"], Estimate(5.0), target) == "fails"


def test_every_comparison_of_the_paper_has_a_rule_or_is_a_direction():
    with (ROOT / "data/published/claims.csv").open(encoding="utf-8") as lines:
        used = {row["comparison"] for row in csv.DictReader(lines)}
    assert used == (set(PRINTED) | set(DIRECTIONS)) & used
    assert not set(PRINTED) & set(DIRECTIONS)
    assert used == set(PRINTED) | set(DIRECTIONS)
