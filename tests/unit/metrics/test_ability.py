"""Whether a model does a task."""

from __future__ import annotations

import pandas as pd
import pytest

from hvp_patching.metrics.ability import ability


def answers(right: int, wrong: int, chance: float = 0.0) -> pd.DataFrame:
    n = right + wrong
    flags = [True] * right + [False] * wrong
    return pd.DataFrame(
        {"prompt_id": [f"p{i}" for i in range(n)], "correct": flags, "chance": chance}
    )


def test_above_chance_is_a_share_of_what_is_left():
    row = ability(answers(16, 24, 0.25), 0.25).iloc[0]
    assert row["accuracy"] == 0.4
    assert row["above_chance"] == pytest.approx(0.2)
    assert not row["able"]
    assert row["ci_low"] < 0.4 < row["ci_high"]
    assert row["n_prompts"] == 40


@pytest.mark.parametrize(("right", "able"), [(10, True), (9, False)])
def test_the_level_itself_is_enough(right, able):
    assert bool(ability(answers(right, 40 - right), 0.25)["able"].iloc[0]) is able


def test_no_answers_and_impossible_levels_are_refused():
    with pytest.raises(ValueError, match="no answers given"):
        ability(answers(0, 0), 0.25)
    with pytest.raises(ValueError, match=r"able_from is 2; give a share in \[0, 1\]"):
        ability(answers(1, 1), 2)
