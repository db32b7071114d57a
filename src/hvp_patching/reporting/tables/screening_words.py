"""What the screening tables say, in sentences, and how their methods are called."""

from __future__ import annotations

from types import MappingProxyType

import pandas as pd

from hvp_patching.reporting.names import component_name, setting_label
from hvp_patching.reporting.results import records, setting_of
from hvp_patching.reporting.style import MethodStyle, method_label, method_style

UPPER = "largest_upper"
EXACT = "activation_patching"
TARGET_RECALL, TARGET_COST = 0.95, 50.0  # of the true ten largest, at a percentage of patching all
# policies that spend a budget, then methods that patch nothing or everything
POLICIES = MappingProxyType(
    {
        UPPER: MethodStyle("Largest upper end", "#0072B2", "D"),
        "ap": MethodStyle("Largest AP", "#D55E00", "o"),
        "rho": MethodStyle("Largest reliability score", "#CC79A7", "v"),
        "half_q": MethodStyle("Largest curvature", "#E69F00", "s"),
        "random": MethodStyle("At random", "#888888", "x"),
    }
)
FLAG_FIX = MethodStyle("Screen–Flag–Fix", "#882255", "P")


def screening_style(method: str, budget: float) -> MethodStyle:
    """Style of a method; a policy has a budget, an estimator alone none (NaN).

    ``ValueError`` for an unknown one.
    """
    if not pd.isna(budget) and method in POLICIES:
        return POLICIES[method]
    return FLAG_FIX if method == "screen_flag_fix" else method_style(method)


def screening_label(method: str, budget: float) -> str:
    """Display name of a method with its number of steps."""
    if (method in POLICIES and not pd.isna(budget)) or method == "screen_flag_fix":
        return screening_style(method, budget).name
    return method_label(method)


def where_each_wins(frame: pd.DataFrame) -> str:
    """Which method to take in one setting, from its part of the table (heads, with costs)."""
    apart = frame[~frame["pooled"].astype(bool)]
    screened = apart[(apart["method"] == UPPER) & apart["budget"].notna()].sort_values("budget")
    steps = ", ".join(
        f"{row['recall_10']:.2f} at {row['cost_pct']:.0f}% of its time"
        for _, row in screened.iterrows()
    )
    alone = apart[apart["budget"].isna() & (apart["method"] != EXACT)]
    text = f"Of the ten largest effects, which patching everything finds, screening finds {steps}"
    if len(alone):
        best = alone.sort_values(["recall_10", "cost_pct"], ascending=[False, True]).iloc[0]
        name = _plain(best["method"])
        text += f"; without any patch the best is {name}: {best['recall_10']:.2f} at "
        text += f"{best['cost_pct']:.0f}%"
    reached = screened[
        (screened["recall_10"] >= TARGET_RECALL) & (screened["cost_pct"] <= TARGET_COST)
    ]
    verdict = "is reached" if len(reached) else "is not reached"
    return f"{text}. A recall of {TARGET_RECALL} at half the time {verdict}. {_policies(apart)}"


def _policies(apart: pd.DataFrame) -> str:
    """Which order of patching is best at each budget."""
    spending = apart[apart["budget"].notna()]
    if spending.empty:
        return ""
    best = []
    for budget, rows in spending.groupby("budget", sort=True):
        top = rows["recall_10"].max()
        share = float(str(budget))
        names = [_plain(name, share) for name in rows.loc[rows["recall_10"] == top, "method"]]
        best.append(f"{100 * share:.0f}%: {' and '.join(names)} ({top:.2f})")
    return f"Best order at a budget of {'; '.join(best)}."


def _plain(method: str, budget: float = float("nan")) -> str:
    return screening_style(str(method), budget).name


def row_names(frame: pd.DataFrame) -> list[str]:
    """What each row is, in words."""
    names = []
    for row in records(frame):
        words = [setting_label(setting_of(row))]
        words += [component_name(row["site"])] if "site" in row else []
        budget = row["budget"]
        at: str = "" if pd.isna(budget) else f" at {budget:.0%}"
        words.append(_plain(row["method"], budget) + at)
        words += ["pooled"] if row["pooled"] else []
        names.append(", ".join(words))
    return names


def coverage_sentence(frame: pd.DataFrame) -> str:
    """Whether coverage and bound hold within their binomial errors, and where they do not."""
    judged = frame.assign(named=row_names(frame))[frame["n_runs"] > 0]
    level = 100 * (1 - float(frame["alpha"].iloc[0]))
    found = []
    for what, column in (("Coverage", "coverage"), ("The bound on the missed", "bound")):
        below = judged[judged[f"{column}_ci_high_pct"] < level]
        if below.empty:
            found.append(
                f"{what} is nowhere below {level:g}% beyond its binomial error "
                f"({len(judged)} cases of {int(judged['n_runs'].min())} runs or more)."
                if len(judged)
                else f"{what} was never put to the test: too few components."
            )
        else:
            names = "; ".join(below["named"])
            found.append(f"{what} is below {level:g}% beyond its binomial error: {names}.")
    return " ".join(found)
