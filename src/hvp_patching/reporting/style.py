"""One name, colour and marker per method, and one plot style, for every table and figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hvp_patching.circuits.method_names import REPLACING, split_name
from hvp_patching.reporting.names import model_name


@dataclass(frozen=True)
class MethodStyle:
    """How a method looks: name in tables and legends, colour as hex, matplotlib marker."""

    name: str
    colour: str
    marker: str


# Colours: Okabe and Ito's eight, Paul Tol's "muted", then what is far from all before, also as the
# colour-blind see it. No two methods share colour or marker; beyond the filled markers come those
# that a line hides least.
METHODS = MappingProxyType(
    {
        "activation_patching": MethodStyle("Activation patching", "#000000", "*"),
        "ap": MethodStyle("AP", "#D55E00", "o"),
        "hvp": MethodStyle("Std HVP", "#E69F00", "s"),
        "ms_hvp": MethodStyle("MS-HVP", "#0072B2", "D"),
        "ig": MethodStyle("IG", "#009E73", "^"),
        "ih_pi": MethodStyle("IH-PI", "#CC79A7", "v"),
        "gim": MethodStyle("GIM", "#56B4E9", "X"),
        "atp_star": MethodStyle("AtP*", "#882255", "P"),
        "ih_dr": MethodStyle("IH-DR", "#AA4499", "<"),
        "third_order": MethodStyle("Third-order Taylor", "#332288", ">"),
        "fd_hvp": MethodStyle("Finite-difference HVP", "#DDCC77", "p"),
        "gauss_newton": MethodStyle("Gauss–Newton", "#117733", "h"),
        "k_median": MethodStyle("K-median", "#44AA99", "d"),
        "local_curvature": MethodStyle("Local curvature", "#999933", "8"),
        "local_curvature_unweighted": MethodStyle("Local, unweighted", "#B9C3CC", "."),
        "atp_star_qkv": MethodStyle("AtP* (q, k, v)", "#661100", "H"),
        "gl": MethodStyle("Gauss–Legendre IG", "#7733DD", "x"),
        "lobatto": MethodStyle("Gauss–Lobatto IG", "#888888", "+"),
        "relp": MethodStyle("RelP", "#8888FF", "3"),
        "ig_inputs": MethodStyle("IG over inputs", "#0000FF", "4"),
        "clean_corrupted": MethodStyle("Clean and corrupted", "#220033", "|"),
        "second_order_share": MethodStyle("Second-order share", "#BB0011", r"$\oplus$"),
        "gim_0_1_4": MethodStyle("GIM 0.1.4", "#00EEAA", r"$\otimes$"),
        "ih_full": MethodStyle("IH, full", "#EE2255", r"$\ominus$"),
    }
)

# Methods that score edges; in figures of their own, so that they take their kin's colours again.
EDGE_METHODS = MappingProxyType(
    {
        "exact": MethodStyle("Exact patching", "#000000", "*"),
        "eap": MethodStyle("EAP", "#D55E00", "o"),
        "eap_ig_inputs": MethodStyle("EAP-IG (inputs)", "#009E73", "^"),
        "eap_ig_activations": MethodStyle("EAP-IG (activations)", "#117733", "h"),
        "hvp_own": MethodStyle("HVP (own)", "#E69F00", "s"),
        "hvp_reader": MethodStyle("HVP (reader)", "#DDCC77", "p"),
        "hvp_input": MethodStyle("HVP (input)", "#CC79A7", "v"),
        "hvp_joint": MethodStyle("HVP (joint)", "#882255", "P"),
        "ms_hvp_own": MethodStyle("MS-HVP (own)", "#56B4E9", "X"),
        "ms_hvp_input": MethodStyle("MS-HVP (input)", "#0072B2", "D"),
        "ms_hvp_joint": MethodStyle("MS-HVP (joint)", "#332288", ">"),
        "ig_own": MethodStyle("IG (own)", "#44AA99", "d"),
        "selective": MethodStyle("Selective HVP", "#999933", "8"),
        "selective_input": MethodStyle("Selective HVP (input)", "#B9C3CC", "."),
        "selective_joint": MethodStyle("Selective HVP (joint)", "#661100", "H"),
        "hvp_input_flagged": MethodStyle("EAP, flagged: HVP (input)", "#888888", "+"),
        "hvp_joint_flagged": MethodStyle("EAP, flagged: HVP (joint)", "#EE2255", r"$\ominus$"),
        "selective_own": MethodStyle("EAP, edges by own HVP", "#AA4499", "<"),
        "selective_exact": MethodStyle("EAP, edges patched", "#7733DD", "x"),
    }
)

# what the number at the end of a method's id counts
STEPS = MappingProxyType(
    {
        **dict.fromkeys(("ms_hvp", "ih_pi"), "K"),
        **dict.fromkeys(("ig", "ig_inputs"), "N"),
        **dict.fromkeys(("ih_dr", "ih_full", "gl", "lobatto"), "n"),
    }
)

# Models compared within a figure, in order of appearance; a line style of its own each, since
# colours belong to methods. More models than colours take them again with other markers and lines.
MODEL_COLOURS = ("#004488", "#BB5566", "#DDAA33", "#000000", "#117733")
MODEL_MARKERS = ("o", "s", "^", "D", "v")
MODEL_LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))
RC: MappingProxyType[Any, Any] = MappingProxyType(
    {
        "figure.dpi": 100,
        "savefig.dpi": 300,
        "savefig.bbox": "tight",
        "font.size": 9,
        "axes.labelsize": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#DDDDDD",
        "grid.linewidth": 0.5,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.2,
        "lines.markersize": 5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "pdf.fonttype": 42,  # text stays text
    }
)


def method_style(method: str) -> MethodStyle:
    """Style of a method by its id; an estimator's steps share it (``ms_hvp_5``, ``ig_left_10``).

    Raises ``ValueError`` listing the known ids.
    """
    return METHODS[_split(method)[0]]


def method_label(method: str) -> str:
    """Display name with the number of steps, as in "MS-HVP (K=5)" and "IG, left (N=10)"."""
    family, side, steps = _split(method)
    name = METHODS[family].name + (f", {side}" if side else "")
    return f"{name} ({STEPS[family]}={steps})" if steps and family in STEPS else name


def _split(method: str) -> tuple[str, str, str]:
    if method in METHODS:  # with a number of its own, as in gim_0_1_4
        return method, "", ""
    match = re.fullmatch(r"(.+?)(?:_(left|right))?(?:_(\d+))?", method)
    family, side, steps = match.groups("") if match else (method, "", "")
    if family not in METHODS:
        raise ValueError(f"unknown method '{method}'; choose one of: {', '.join(METHODS)}")
    return family, side, steps


def edge_method_style(method: str) -> MethodStyle:
    """Style of a method that scores edges; its steps, edges and threshold share it.

    Raises ``ValueError`` listing the known ones.
    """
    return EDGE_METHODS[split_name(method)[0]]


def edge_method_label(method: str) -> str:
    """Display name with its number, as in "EAP-IG (inputs), 5" and "EAP, 100 edges patched"."""
    family, number = split_name(method)
    name = EDGE_METHODS[family].name
    if family in REPLACING:
        return name.replace("edges", f"{number} edges")
    return f"{name}, {number}" if number else name


@dataclass(frozen=True)
class ModelStyle:
    """How a model looks: display name, colour as hex, marker, matplotlib line style."""

    name: str
    colour: str
    marker: str
    line: Any


def model_styles(models: Sequence[str]) -> dict[str, ModelStyle]:
    """One style per different model, by order of appearance.

    Up to 25 models differ in colour, marker or line, the first five in all three.
    """
    styles = {}
    for i, model in enumerate(dict.fromkeys(models)):
        again = i + i // len(MODEL_COLOURS)  # shifts markers and lines against the colours
        styles[model] = ModelStyle(
            model_name(model),
            MODEL_COLOURS[i % len(MODEL_COLOURS)],
            MODEL_MARKERS[again % len(MODEL_MARKERS)],
            MODEL_LINES[again % len(MODEL_LINES)],
        )
    return styles


def use_style() -> None:
    """Set matplotlib's rcParams to the style of this project's figures.

    Whatever a matplotlibrc or an earlier style set gives way to matplotlib's defaults first; the
    backend stays.
    """
    import matplotlib as mpl

    mpl.rcdefaults()
    mpl.rcParams.update(dict(RC))
