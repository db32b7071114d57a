"""The settings of a figure: their results in one frame, and one style for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hvp_patching.aggregates import read_result
from hvp_patching.reporting.names import model_name, setting_label
from hvp_patching.reporting.style import ModelStyle, model_styles
from hvp_patching.settings import KEY, Setting


def read_figure(
    inputs: Mapping[str, Sequence[Path | str]], name: str, settings: Sequence[str]
) -> pd.DataFrame:
    """One result of all settings, with the columns setting, model and task in front.

    ``inputs[name]`` has one file per 'model/task' of ``settings``. Raises ``FrameError`` as
    ``read_result`` does, and ``ValueError`` for a setting of another form.
    """
    parsed = [Setting.parse(setting) for setting in settings]
    frame = read_result(name, inputs[name], parsed)
    rows = frame[list(KEY)].itertuples(index=False, name=None)
    of_row = pd.Series([str(Setting(*row)) for row in rows], index=frame.index, dtype="str")
    frame.insert(0, "setting", of_row)
    return frame.drop(columns="corruption")


def setting_styles(settings: Sequence[str]) -> dict[str, ModelStyle]:
    """A style per different setting, named by its model, and by its task where models recur."""
    parsed = {setting: Setting.parse(setting) for setting in settings}
    models = [one.model for one in parsed.values()]
    recur = len(set(models)) < len(models)
    return {
        setting: replace(style, name=setting_label(parsed[setting]) if recur else model_name(model))
        for (setting, style), model in zip(model_styles(settings).items(), models, strict=True)
    }
