"""What panels share: their titles, numbers in notes, clouds of points on two log axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTE_SIZE = 7
GUIDE: dict[str, Any] = {"color": "#555555", "linewidth": 0.8}


def panel_title(axes: Axes, letter: str, title: str, note: str = "", lines: int = 0) -> None:
    """Title at the left edge, after the panel's letter in bold, with a small note below it.

    ``lines`` is the room for the note in lines, its own by default; give panels that stand side
    by side the same, so that their titles are on one height. Nothing of it covers data.
    """
    room = lines or (note.count("\n") + 1 if note else 0)
    axes.set_title(rf"$\mathbf{{{letter}}}$  {title}", loc="left", pad=4 + 1.5 * NOTE_SIZE * room)
    axes.annotate(
        note,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=NOTE_SIZE,
        va="bottom",
    )


def number(value: float, places: int | None = None) -> str:
    """Fixed decimals, by default such that three digits or the whole part show; a dash for NaN."""
    if not np.isfinite(value):
        return "–"
    if places is None:
        places = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{places}f}"


def positive_pairs(first: pd.Series, second: pd.Series) -> pd.DataFrame:
    """The pairs that log axes can show: columns x and y, both finite and above 0."""
    pairs = pd.DataFrame({"x": first.to_numpy(), "y": second.to_numpy()}, dtype=float)
    return pairs[((pairs > 0) & np.isfinite(pairs)).all(axis=1)]


def log_cloud(axes: Axes, pairs: pd.DataFrame, colour: str, reach: float = 0.0) -> None:
    """``positive_pairs`` as points on log axes of one range, with the line x = y.

    The axes reach ``reach`` at least. The points are rasterised; more of them are smaller and
    fainter. Without any, the axes stay empty and say so.
    """
    axes.set(xscale="log", yscale="log")
    low, high = 1e-3, 1e3
    if pairs.empty:
        box = {"facecolor": "white", "edgecolor": "none"}
        axes.text(
            0.5, 0.5, "no pair above 0", transform=axes.transAxes, ha="center", bbox=box, zorder=6
        )
    else:
        crowd = min(1.0, 300 / len(pairs))
        axes.scatter(
            pairs["x"],
            pairs["y"],
            s=4 + 8 * crowd,
            alpha=0.35 + 0.4 * crowd,
            color=colour,
            linewidths=0,
            rasterized=True,
            zorder=3,
        )
        low, high = pairs.to_numpy().min() / 2, pairs.to_numpy().max() * 2
    high = max(high, reach)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.axline((1, 1), (10, 10), linestyle="-", zorder=2, **GUIDE)
    axes.set_box_aspect(1)
