from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle

from hvp_patching.circuits.method_names import FAMILIES
from hvp_patching.estimators import NAMES
from hvp_patching.reporting.names import MODEL_NAMES, model_name, task_name
from hvp_patching.reporting.style import (
    EDGE_METHODS,
    METHODS,
    RC,
    edge_method_label,
    edge_method_style,
    method_label,
    method_style,
    model_styles,
    use_style,
)

EXPECTED = (
    "ap hvp ms_hvp ig ih_pi ih_dr third_order fd_hvp gauss_newton k_median gim atp_star "
    "local_curvature local_curvature_unweighted activation_patching atp_star_qkv gl lobatto "
    "relp ig_inputs clean_corrupted second_order_share gim_0_1_4 ih_full"
)

# what is left where the sixteen filled markers are taken; no '_', which a line hides
THIN = ("+", "x", "3", "4", "|", r"$\oplus$", r"$\otimes$", r"$\ominus$")
CIE_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))


def test_every_method_has_its_own_colour_marker_and_name():
    assert set(METHODS) == set(EXPECTED.split())
    for attribute in ("name", "colour", "marker"):
        assert len({getattr(style, attribute) for style in METHODS.values()}) == len(METHODS)
    for style in METHODS.values():
        to_rgb(style.colour)
        assert style.marker in (*Line2D.filled_markers, *THIN)
        assert len(MarkerStyle(style.marker).get_path().vertices) > 1


def cie_lab(colour):
    """Lightness, red against green and yellow against blue, in steps that look alike."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    xyz = np.array(CIE_XYZ) @ linear / np.sum(CIE_XYZ, axis=1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def lightness(colour):
    """CIE lightness, which every kind of colour blindness leaves."""
    return cie_lab(colour)[0]


def test_colours_of_any_two_methods_look_different():
    colours = [cie_lab(style.colour) for style in METHODS.values()]
    nearest = min(np.linalg.norm(one - other) for one, other in combinations(colours, 2))
    assert nearest > 15


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
        ("gl_4", "Gauss–Legendre IG (n=4)"),
        ("lobatto_3", "Gauss–Lobatto IG (n=3)"),
        ("atp_star_qkv", "AtP* (q, k, v)"),
        ("ig_inputs_5", "IG over inputs (N=5)"),
        ("ih_full_3", "IH, full (n=3)"),
        ("gim_0_1_4", "GIM 0.1.4"),
        ("second_order_share", "Second-order share"),
    ],
)
def test_labels_name_the_steps(method, label):
    assert method_label(method) == label


def test_every_estimator_of_the_library_has_a_style():
    for pattern in NAMES:
        method_style(pattern.replace(r"(\d+)", "7"))


def test_every_baseline_of_the_library_has_a_style():
    from hvp_patching.baselines import BASELINES

    for name in BASELINES:
        method_style(name)
    assert method_style("gim_0_1_4") is not method_style("gim")
    assert method_style("ig_inputs_20") is METHODS["ig_inputs"]
    assert method_style("ig_inputs_20") is not method_style("ig_20")


def test_models_of_a_figure_look_different_and_have_names():
    styles = model_styles(["gpt2-small", "mine", "gpt2-small", "gemma-2-2b"])
    assert [style.name for style in styles.values()] == ["GPT-2 small", "mine", "Gemma-2-2B"]
    assert list(styles) == ["gpt2-small", "mine", "gemma-2-2b"]
    for attribute in ("colour", "marker", "line"):
        assert len({getattr(style, attribute) for style in styles.values()}) == 3
    for style in styles.values():
        to_rgb(style.colour)
        Line2D([], [], marker=style.marker, linestyle=style.line)


def test_more_models_than_colours_still_differ():
    styles = model_styles(list(MODEL_NAMES)).values()
    assert len(styles) > 5
    assert len({(style.colour, style.marker, style.line) for style in styles}) == len(styles)


def test_a_model_of_ones_own_shows_its_id():
    assert model_name("smollm2-135m") == "SmolLM2-135M"
    assert model_name("mine") == "mine"


def test_a_task_of_ones_own_shows_its_id():
    assert task_name("greater_than") == "Greater-Than"
    assert task_name("mine") == "mine"


def test_style_is_valid_and_applied():
    with mpl.rc_context():
        use_style()
        assert all(mpl.rcParams[key] == value for key, value in RC.items() if key != "grid.color")
        assert mpl.rcParams["grid.color"] == RC["grid.color"]


def test_what_a_matplotlibrc_says_gives_way_to_the_defaults():
    with mpl.rc_context():
        use_style()
        wanted, backend = dict(mpl.rcParams), mpl.get_backend()
        mpl.rcParams.update(
            {"text.usetex": True, "font.size": 30, "savefig.bbox": None, "figure.figsize": (1, 1)}
        )
        mpl.style.use("dark_background")
        use_style()
        assert dict(mpl.rcParams) == wanted
        assert mpl.get_backend() == backend


def test_every_method_that_scores_edges_has_its_own_looks():
    assert set(EDGE_METHODS) == set(FAMILIES)
    for attribute in ("name", "colour", "marker"):
        assert len({getattr(style, attribute) for style in EDGE_METHODS.values()}) == len(FAMILIES)
    for style in EDGE_METHODS.values():
        assert style.marker in (*Line2D.filled_markers, *THIN)
    colours = [cie_lab(style.colour) for style in EDGE_METHODS.values()]
    assert min(np.linalg.norm(one - other) for one, other in combinations(colours, 2)) > 15


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("eap", "EAP"),
        ("eap_ig_inputs_5", "EAP-IG (inputs), 5"),
        ("selective_0.3", "Selective HVP, 0.3"),
        ("selective_own_100", "EAP, 100 edges by own HVP"),
        ("selective_exact_7", "EAP, 7 edges patched"),
    ],
)
def test_labels_of_methods_that_score_edges_have_their_number(method, label):
    assert edge_method_label(method) == label


def test_a_method_that_scores_no_edges_is_refused():
    for function in (edge_method_label, edge_method_style):
        with pytest.raises(ValueError, match="unknown method 'gim'; known: eap"):
            function("gim")
