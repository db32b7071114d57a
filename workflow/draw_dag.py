"""Draws docs/dag.svg: the data's way from prompt to table, as Snakemake plans it.

Rules of one kind (measure_*, the tables, the figures) are one box. An arrow that a longer way
implies is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
GROUPS = {
    r"(measure_(?!costs$).*)": "measure_*",
    r"(table\d+|.*_table|screening_sites)": "tables",
    r"(figure\d+|convergence|edges|floors|frontier|screening|sets|spectrum)": "figures",
}
COLOURS = {"compute": "#DDEBF7", "measure": "#E8F3E1", "": "#F5F0E1"}
WIDTH, HEIGHT = 1.85, 0.42  # of a box, in inches

Edges = set[tuple[str, str]]


def rule_graph(config: str = "config/smoke.yaml") -> tuple[dict[str, int], Edges]:
    """Boxes with the number of rules in each, and edges from a box to what reads it."""
    command = ["snakemake", "--rulegraph", "mermaid-js", "--configfile", config, "--nolock"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]", text, re.M))
    boxes: dict[str, int] = defaultdict(int)
    for name in names.values():
        boxes[box_of(name)] += 1
    pairs = re.findall(r"^\s*(id\d+) --> (id\d+)", text, re.M)
    edges = {(box_of(names[a]), box_of(names[b])) for a, b in pairs}
    return {box: n for box, n in boxes.items() if box != "all"}, {
        (a, b) for a, b in edges if a != b and b != "all"
    }


def box_of(rule: str) -> str:
    """The box that a rule is drawn in."""
    return next((box for kind, box in GROUPS.items() if re.fullmatch(kind, rule)), rule)


def reduced(edges: Edges) -> Edges:
    """Without every edge that a longer way implies."""
    after: dict[str, set[str]] = defaultdict(set)
    for a, b in edges:
        after[a].add(b)

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        todo = list(after[start])
        while todo:
            here = todo.pop()
            if here not in found:
                found.add(here)
                todo += after[here]
        return found

    return {(a, b) for a, b in edges if not any(b in reach(c) for c in after[a] - {b})}


def columns(boxes: dict[str, int], edges: Edges) -> dict[str, int]:
    """The length of the longest way to each box."""
    depth = dict.fromkeys(boxes, 0)
    for _ in boxes:
        for a, b in edges:
            depth[b] = max(depth[b], depth[a] + 1)
    return depth


def draw(boxes: dict[str, int], edges: Edges, path: Path) -> None:
    """One column per step of the way; names stay text, so that they can be searched for."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dag", "font.size": 8.5})
    by_column: dict[int, list[str]] = defaultdict(list)
    for box, column in columns(boxes, edges).items():
        by_column[column].append(box)
    tallest = max(map(len, by_column.values()))
    where: dict[str, tuple[float, float]] = {}
    for column, members in sorted(by_column.items()):
        for i, box in enumerate(sorted(members)):
            where[box] = (column * 2.35, -(i + (tallest - len(members)) / 2) * 0.75)
    size = (len(by_column) * 2.35, tallest * 0.75 + 0.2)
    figure, axes = plt.subplots(figsize=size)
    for a, b in sorted(reduced(edges)):
        (x, y), (to_x, to_y) = where[a], where[b]
        axes.annotate(
            "",
            (to_x - WIDTH / 2, to_y),
            (x + WIDTH / 2, y),
            zorder=1,  # behind the boxes
            arrowprops={"arrowstyle": "-|>", "color": "#888888", "lw": 0.8, "shrinkA": 0},
        )
    for box, (x, y) in where.items():
        colour = COLOURS.get(box.partition("_")[0], COLOURS[""])
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        look = {"fc": colour, "ec": "#555555", "lw": 0.8, "zorder": 2}
        axes.add_patch(plt.Rectangle(corner, WIDTH, HEIGHT, **look))
        label = box if boxes[box] == 1 else f"{box} ({boxes[box]})"
        axes.text(x, y, label, ha="center", va="center", zorder=3)
    axes.set(xlim=(-1, size[0] - 1.2), ylim=(-size[1] + 0.6, 0.4), aspect="equal")
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw(*rule_graph(), Path(sys.argv[1]))
