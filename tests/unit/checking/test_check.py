"""Which rows are checked, for how long, and what is said; no model runs here."""

from __future__ import annotations

import pytest

from hvp_patching.checking import Check, CheckFailed, Comparison, chosen_level
from hvp_patching.checking.check import CannotCheck


class Clock:
    """Time that passes only where the test lets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def agreeing(method="autograd", tolerance=1e-3):
    def verify(rows):
        return [Comparison(f"row {row}", method, 1.0, 1.0 + 1e-4, tolerance) for row in rows]

    return verify


def test_a_sample_stays_within_its_share_of_the_rules_time():
    clock, checked = Clock(), []
    check = Check("sample", 0.1, clock=clock)

    def verify(rows):
        checked.append(clock.now)
        clock.now += 2.0
        return agreeing()(rows)

    for prompt in range(20):
        clock.now += 10.0  # the rule's own work
        check.rows(f"prompt {prompt}", range(50), verify)
    # the first row at once; then one whenever a tenth of the own time covers it too
    assert len(checked) == 10
    assert 2.0 * len(checked) <= 0.1 * 20 * 10.0
    assert check.summary() == ("check: 10 of 1000 rows agree by autograd (tol 0.001), 20.0 s")


def test_at_least_one_row_is_checked_however_little_time_there_is():
    clock = Clock()
    check = Check("sample", 0.1, clock=clock)
    for prompt in "abc":
        check.rows(
            prompt,
            range(5),
            lambda rows: (setattr(clock, "now", clock.now + 9), agreeing()(rows))[1],
        )
    assert check.checked == 1


def test_rows_that_take_no_time_are_all_checked():
    check = Check("sample", clock=Clock())
    check.rows("a", range(40), agreeing())
    assert check.checked == check.seen == 40


def drawn(seed, name):
    rows, clock = [], Clock()
    check = Check("sample", seed=seed, clock=clock)
    check.rows(
        name,
        range(1000),
        lambda row: (rows.extend(row), setattr(clock, "now", 1e9), agreeing()(row))[2],
    )
    return rows


def test_the_sample_is_seeded_and_differs_by_prompt():
    assert drawn(0, "a") == drawn(0, "a")
    assert len({tuple(drawn(seed, name)) for seed in (0, 1) for name in "abc"}) == 6


def test_all_rows_are_verified_together():
    calls = []
    check = Check("all", clock=Clock())
    check.rows("a", range(7), lambda rows: calls.append(list(rows)) or agreeing()(rows))
    assert calls == [list(range(7))]
    assert check.summary().startswith("check: 7 of 7 rows agree")


def test_off_does_nothing():
    check = Check("off")
    check.rows("a", range(7), lambda rows: pytest.fail("verified"))
    assert not check.on
    assert check.seen == 0


@pytest.mark.parametrize("ours", [1.0021, float("nan"), float("inf")])
def test_a_disagreement_stops_with_one_line(ours):
    check = Check("all")
    bad = Comparison("prompt 'p', layer 1, index 2, node 0.5, order 2", "autograd", ours, 1.0, 2e-3)
    with pytest.raises(CheckFailed) as failed:
        check.rows("p", [0], lambda rows: [bad])
    assert str(failed.value) == (
        f"check: prompt 'p', layer 1, index 2, node 0.5, order 2: {ours:.9g} here, 1 by autograd "
        "(tolerance 0.002); do not trust these numbers: set results/store aside and run again, and "
        "report it if this comes back"
    )


def test_what_the_other_way_cannot_tell_is_counted():
    check = Check("all")

    def verify(rows):
        yield Comparison("a", "finite differences", 3.0, 1.0, 2.5)  # tells
        yield Comparison("b", "finite differences", 3.0, 1.0, float("inf"))
        yield Comparison("c", "finite differences", 1e-9, 0.0, 1e-4)  # both are next to nothing

    check.rows("p", range(3), verify)
    assert "by finite differences (2 tell, tol 0.0001 to inf)" in check.summary()


def test_what_cannot_be_checked_is_said_once_and_the_rule_goes_on():
    check = Check("sample", clock=Clock())

    def verify(rows):
        raise CannotCheck("there is no memory")

    for prompt in "ab":
        check.rows(prompt, range(3), verify)
    assert check.summary() == "check: 0 of 6 rows agree, 0.0 s; there is no memory"


@pytest.mark.parametrize(
    ("configured", "variable", "level"),
    [
        ("off", None, "off"),
        ("sample", "", "sample"),
        ("off", "1", "sample"),
        ("all", "1", "all"),
        ("all", "0", "off"),
        ("off", "all", "all"),
        ("all", "sample", "sample"),
        ("sample", "off", "off"),
    ],
)
def test_the_variable_and_the_configuration_choose_the_level(configured, variable, level):
    environ = {} if variable is None else {"HVP_CHECK": variable}
    assert chosen_level(configured, environ) == level


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="HVP_CHECK is 'yes'; set it to 1, 0 or one of: off"):
        chosen_level("off", {"HVP_CHECK": "yes"})
    with pytest.raises(ValueError, match="unknown check level 'some'; choose one of: off, sample"):
        Check("some")
