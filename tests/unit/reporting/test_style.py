import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from hvp_patching.estimators import NAMES
from hvp_patching.reporting.style import (
    METHODS,
    RC,
    method_label,
    method_style,
    task_name,
    use_style,
)

EXPECTED = (
    "ap hvp ms_hvp ig ih_pi ih_dr third_order fd_hvp gauss_newton k_median gim atp_star "
    "local_curvature activation_patching"
)


def test_every_method_has_its_own_colour_marker_and_name():
    assert set(METHODS) == set(EXPECTED.split())
    for attribute in ("name", "colour", "marker"):
        assert len({getattr(style, attribute) for style in METHODS.values()}) == len(METHODS)
    for style in METHODS.values():
        to_rgb(style.colour)
        assert style.marker in Line2D.markers


def lightness(colour):
    """CIE lightness, which every kind of colour blindness leaves."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_the_two_methods_compared_most_differ_in_lightness():
    assert abs(lightness("#D55E00") - lightness(METHODS["ms_hvp"].colour)) > 8


def test_unknown_method_lists_the_known():
    with pytest.raises(ValueError, match=r"unknown method 'eap'; choose one of: .*ms_hvp"):
        method_style("eap")


def test_steps_share_their_methods_style():
    for method in ("ms_hvp_5", "ms_hvp_20", "ms_hvp"):
        assert method_style(method) is METHODS["ms_hvp"]
    assert method_style("ig_left_10") is METHODS["ig"]
    with pytest.raises(ValueError, match="unknown method 'eap_5'"):
        method_style("eap_5")


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("ap", "AP"),
        ("ms_hvp_5", "MS-HVP (K=5)"),
        ("ig_35", "IG (N=35)"),
        ("ig_left_10", "IG, left (N=10)"),
        ("ih_dr_3", "IH-DR (n=3)"),
        ("k_median", "K-median"),
    ],
)
def test_labels_name_the_steps(method, label):
    assert method_label(method) == label


def test_every_estimator_of_the_library_has_a_style():
    for pattern in NAMES:
        method_style(pattern.replace(r"(\d+)", "7"))


def test_a_task_of_ones_own_shows_its_id():
    assert task_name("greater_than") == "Greater-Than"
    assert task_name("mine") == "mine"


def test_style_is_valid_and_applied():
    with mpl.rc_context():
        use_style()
        assert all(mpl.rcParams[key] == value for key, value in RC.items() if key != "grid.color")
        assert mpl.rcParams["grid.color"] == RC["grid.color"]
