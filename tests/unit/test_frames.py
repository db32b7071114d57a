"""Tables between rooms: their columns, and files of several settings read below each other."""

import pandas as pd
import pytest

from hvp_patching.aggregates import FRAMES, by_setting, read_result
from hvp_patching.frames import FrameError
from hvp_patching.settings import Setting

NAME = "prefix"  # a small frame: n_prompts, reduction


@pytest.fixture
def paths(tmp_path):
    found = []
    for number in range(2):
        path = tmp_path / f"{number}.parquet"
        table = pd.DataFrame({"n_prompts": [1, 2], "reduction": [number, number + 0.5]})
        table.to_parquet(path)
        found.append(str(path))
    return found


ONE, TWO = Setting("m", "ioi"), Setting("m", "factual", "zero")


def test_every_column_says_what_it_holds():
    for name, frame in FRAMES.items():
        assert frame.name == name
        assert frame.columns
        assert all(frame.columns.values()), name


def test_rows_get_their_setting_in_order(paths):
    frame = read_result(NAME, paths, [ONE, TWO])
    assert list(frame.columns) == ["model", "task", "corruption", "n_prompts", "reduction"]
    assert frame["reduction"].tolist() == [0, 0.5, 1, 1.5]
    assert frame["corruption"].tolist() == ["", "", "zero", "zero"]
    parts = by_setting(frame)
    assert list(parts) == [ONE, TWO]
    assert parts[TWO]["reduction"].tolist() == [1, 1.5]


def test_sites_stand_beside_their_settings(paths):
    frame = read_result(NAME, paths, [ONE, ONE], ["attn_heads", "mlp_out"])
    assert frame["site"].tolist() == ["attn_heads"] * 2 + ["mlp_out"] * 2
    with pytest.raises(FrameError, match=r"m/ioi, mlp_out is listed twice: give it once"):
        read_result(NAME, paths, [ONE, ONE], ["mlp_out"] * 2)


@pytest.mark.parametrize(
    ("settings", "sites", "expected"),
    [
        ([ONE], [], "2 files of 'prefix' but 1 settings: give one of each per file"),
        ([ONE, TWO], ["a"], "2 files of 'prefix' but 2 settings, 1 sites"),
        ([ONE, ONE], [], "m/ioi is listed twice: give it once"),
    ],
)
def test_what_does_not_fit_is_named(paths, settings, sites, expected):
    with pytest.raises(FrameError, match=expected) as caught:
        read_result(NAME, paths, settings, sites)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_named_with_what_it_lacks(paths):
    expected = r"0\.parquet lacks the columns tau, flagged_share, .*: measure it again"
    with pytest.raises(FrameError, match=expected):
        read_result("operating", paths, [ONE, TWO])


def test_no_settings_are_an_error():
    with pytest.raises(FrameError, match="no settings for 'prefix': choose at least one"):
        read_result(NAME, [], [])
