"""Titles, numbers in notes and clouds of points."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hvp_patching.reporting.figures.panels import log_cloud, number, panel_title, positive_pairs


@pytest.fixture
def axes():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def text_with(axes, words):
    from matplotlib.text import Text

    texts = [child for child in axes.get_children() if isinstance(child, Text)]
    (found,) = [text for text in texts if words in text.get_text()]
    return found


def test_pairs_that_a_log_axis_cannot_show_are_left_out():
    first = pd.Series([1.0, 0.0, -1.0, np.nan, np.inf, 2.0, 3.0], index=range(10, 17))
    second = pd.Series([5.0, 1.0, 1.0, 1.0, 1.0, 0.0, 7.0])
    assert positive_pairs(first, second).to_numpy().tolist() == [[1, 5], [3, 7]]


def test_both_axes_show_every_point_on_one_range(axes):
    pairs = pd.DataFrame({"x": [1e-6, 0.5], "y": [2e-3, 40.0]})
    log_cloud(axes, pairs, "#004488")
    assert axes.get_xscale() == axes.get_yscale() == "log"
    low, high = axes.get_xlim()
    assert (low, high) == axes.get_ylim()
    assert low < 1e-6
    assert high > 40
    (points,) = axes.collections
    np.testing.assert_allclose(points.get_offsets(), pairs)
    assert points.get_rasterized()


def test_the_axes_reach_a_threshold_beyond_the_points(axes):
    log_cloud(axes, pd.DataFrame({"x": [1e-3], "y": [1e-2]}), "#004488", reach=3.0)
    assert axes.get_xlim()[1] == axes.get_ylim()[1] == 3.0


def test_a_cloud_without_points_says_so(axes):
    log_cloud(axes, pd.DataFrame({"x": [], "y": []}), "#004488")
    assert [text.get_text() for text in axes.texts] == ["no pair above 0"]
    assert axes.get_xlim() == axes.get_ylim() == (1e-3, 1e3)
    assert not axes.collections


def test_a_note_stands_between_the_axes_and_the_title(axes):
    panel_title(axes, "b", "SmolLM2-135M", "first line\nsecond line")
    axes.figure.canvas.draw()
    renderer = axes.figure.canvas.get_renderer()
    title = text_with(axes, "SmolLM2-135M")
    note = text_with(axes, "second line")
    assert axes.get_window_extent().y1 <= note.get_window_extent(renderer).y0
    assert note.get_window_extent(renderer).y1 <= title.get_window_extent(renderer).y0


def test_titles_side_by_side_are_on_one_height():
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2)
    panel_title(left, "a", "with a note", "one\ntwo")
    panel_title(right, "b", "without", lines=2)
    figure.canvas.draw()
    pairs = ((left, "with a note"), (right, "without"))
    heights = [text_with(axes, words).get_window_extent().y0 for axes, words in pairs]
    plt.close(figure)
    assert heights[0] == pytest.approx(heights[1])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.12"), (9.994, "9.99"), (25.54, "25.5"), (750.4, "750"), (12345.6, "12346")],
)
def test_numbers_show_three_digits(value, text):
    assert number(value) == text


def test_decimals_can_be_fixed_and_nothing_is_a_dash():
    assert number(0.95049, 3) == "0.950"
    assert number(float("nan"), 3) == number(float("nan")) == "–"
