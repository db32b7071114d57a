"""Tables of several settings in one frame, and a style for each."""

from __future__ import annotations

import pandas as pd
import pytest

from hvp_patching.frames import FrameError
from hvp_patching.reporting.figures.settings import read_figure, setting_styles


@pytest.fixture
def inputs(tmp_path):
    for number, name in enumerate(("one", "two")):
        table = pd.DataFrame({"n_prompts": [1, 2], "reduction": [number, 10.0]})
        table.to_parquet(tmp_path / name)
    return {"prefix": [tmp_path / "one", str(tmp_path / "two")]}


def test_rows_carry_their_setting_in_the_order_given(inputs):
    frame = read_figure(inputs, "prefix", ["gpt2-small/ioi", "tiny-llama/factual/zero"])
    assert list(frame.columns) == ["setting", "model", "task", "n_prompts", "reduction"]
    assert frame["setting"].tolist() == ["gpt2-small/ioi"] * 2 + ["tiny-llama/factual/zero"] * 2
    assert frame["model"].tolist() == ["gpt2-small"] * 2 + ["tiny-llama"] * 2
    assert frame["task"].tolist() == ["ioi"] * 2 + ["factual"] * 2
    assert frame["reduction"].tolist() == [0, 10, 1, 10]
    assert frame.index.tolist() == [0, 1, 2, 3]


def test_a_result_without_rows_has_its_columns(tmp_path):
    empty = pd.DataFrame({"n_prompts": [], "reduction": []})
    empty.to_parquet(tmp_path / "none")
    frame = read_figure({"prefix": [tmp_path / "none"]}, "prefix", ["m/ioi"])
    assert frame.empty
    assert list(frame.columns) == ["setting", "model", "task", "n_prompts", "reduction"]


@pytest.mark.parametrize("settings", [[], ["gpt2-small/ioi"]])
def test_every_table_needs_its_setting(inputs, settings):
    with pytest.raises(FrameError, match=f"2 files of 'prefix' but {len(settings)} settings"):
        read_figure(inputs, "prefix", settings)


def test_a_setting_of_another_form_is_refused(inputs):
    with pytest.raises(ValueError, match="'gpt2-small' is no setting"):
        read_figure(inputs, "prefix", ["gpt2-small/ioi", "gpt2-small"])


def test_settings_are_named_by_their_model_where_that_is_enough():
    styles = setting_styles(["smollm2-135m/ioi", "gemma-3-270m/factual", "smollm2-135m/ioi"])
    assert {key: style.name for key, style in styles.items()} == {
        "smollm2-135m/ioi": "SmolLM2-135M",
        "gemma-3-270m/factual": "Gemma-3-270M",
    }


def test_settings_of_one_model_are_told_apart():
    settings = ["smollm2-135m/ioi", "smollm2-135m/factual", "gemma-3-270m/ioi"]
    styles = setting_styles(settings)
    assert [styles[setting].name for setting in settings] == [
        "SmolLM2-135M, IOI",
        "SmolLM2-135M, Factual",
        "Gemma-3-270M, IOI",
    ]
    for look in ("colour", "marker", "line"):
        assert len({getattr(style, look) for style in styles.values()}) == 3
