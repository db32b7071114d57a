"""What the frontier says, in sentences, and how its methods are called."""

from __future__ import annotations

import pandas as pd

from hvp_patching.frames import EXACT, SCREENED
from hvp_patching.reporting.style import MethodStyle, method_label, method_style


def frontier_style(estimator: str) -> MethodStyle:
    """Style of a method of the table; ``ValueError`` for an unknown one."""
    if estimator.startswith(SCREENED):
        return MethodStyle("AP, then exact patching", "#EE3377", ".")
    return method_style(estimator)


def frontier_label(estimator: str) -> str:
    """Display name of a method of the table; ``ValueError`` for an unknown one."""
    if estimator.startswith(SCREENED):
        k = estimator.removeprefix(f"{SCREENED}_")
        return f"{frontier_style(estimator).name} (k={k})"
    return method_label(estimator)


def recommendation(frame: pd.DataFrame) -> str:
    """Which method to take for how many components, in plain sentences.

    ``frame`` is one setting's part of the table.
    """
    sizes = frame["n_components"]
    alone = frame[sizes == sizes.min()].set_index("estimator")
    together = frame[sizes == sizes.max()].set_index("estimator")
    n = int(sizes.max())
    return " ".join(
        [
            _truth_or_ap(alone, together, n),
            *_screening_sentences(together, n),
            _estimators_sentence(together, f"for all {n} components"),
            _estimators_sentence(alone, "for one component alone"),
        ]
    )


def _truth_or_ap(alone: pd.DataFrame, together: pd.DataFrame, n: int) -> str:
    """How many components exact patching suits better than one reverse pass."""
    passes, break_even = together["forward_equivalents"], together["break_even"].iloc[0]
    costs = (
        f"AP of all {n} components takes {n * passes['ap']:.3g} forward passes, the truth of all "
        f"{n * passes[EXACT]:.3g}"
    )
    if pd.isna(break_even):
        return f"{costs}: patch them all."
    if break_even == 1:
        one = alone["forward_equivalents"][EXACT] * alone["n_components"].iloc[0]
        return f"{costs}, that of a single one {one:.3g}."
    return (
        f"{costs}. Up to {break_even - 1:.0f} components, patch them: the truth takes no longer "
        "than AP."
    )


def _screening_sentences(together: pd.DataFrame, n: int) -> list[str]:
    """What patching the components of largest AP makes of AP's error."""
    names = [str(name) for name in together.index if str(name).startswith(SCREENED)]
    names = [name for name in names if together["on_frontier"][name]]
    if not names:
        return []
    error, passes = together["top5_rel_error_pct"], together["forward_equivalents"]
    steps = [
        f"{error[name]:.3g}% (k={name.removeprefix(f'{SCREENED}_')}, {n * passes[name]:.3g})"
        for name in names
    ]
    return [
        f"To find the largest of all {n}, patch the k components of largest AP: its error of "
        f"{error['ap']:.3g}% falls to {', '.join(steps)}, with forward passes in all in brackets."
    ]


def _estimators_sentence(rows: pd.DataFrame, where: str) -> str:
    """Estimators worth their time between AP and the truth, or what the cheapest costs."""
    special = [name for name in rows.index if name in (EXACT, "ap") or name.startswith(SCREENED)]
    exact = rows["seconds"][EXACT]
    others = rows.drop(index=special)
    better = others[others["top5_rel_error_pct"] < rows["top5_rel_error_pct"]["ap"]]
    if better.empty:
        return f"No estimator has a lower error than AP {where}."
    cheaper = better[(better["seconds"] < exact) & better["on_frontier"]].sort_values("seconds")
    if len(cheaper):
        named = ", ".join(
            f"{frontier_label(str(name))} ({row['top5_rel_error_pct']:.3g}%, "
            f"{row['seconds'] / exact:.2g} times its time)"
            for name, row in cheaper.iterrows()
        )
        return f"Cheaper than exact patching and better than AP {where}: {named}."
    name = str(better["seconds"].idxmin())
    return (
        f"No estimator better than AP is on the frontier {where}: the cheapest, "
        f"{frontier_label(name)}, takes {better['seconds'][name] / exact:.2g} times the time of "
        "exact patching."
    )
