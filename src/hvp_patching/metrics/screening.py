"""Certified screening judged where all effects are known: coverage, recall and cost by policy.

No model runs: a policy patches a component by looking up its truth. Every prompt is screened with
many draws; the same constants serve all settings and prompts, none of which chose them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from hvp_patching.frames import EXACT, SCREENED
from hvp_patching.metrics.certificates import binomial_interval
from hvp_patching.metrics.errors import COMPONENT, ScoresError, check_tidy
from hvp_patching.metrics.frontier import Seconds
from hvp_patching.metrics.reliability import flagging_score
from hvp_patching.metrics.resampling import bootstrap_interval
from hvp_patching.metrics.spending import (
    HALF_Q,
    POLICIES,
    RHO,
    SECOND_ORDER,
    Components,
    Spent,
    spend,
    with_median,
)
from hvp_patching.metrics.walking import Numbers, Places

AP, HVP = "ap", "hvp"
FLAG_FIX = "screen_flag_fix"
REFERENCES = (AP, "relp", HVP, "ig_10")  # estimators without any patch, as far as they are scored
BUDGETS = (0.15, 0.3, 0.5)  # of the components that may be patched
KS = (5, 10, 20)
NUMBERS = ("coverage", "width", "at_most", "above", "bound_holds", "patched")


@dataclass(frozen=True)
class Field:
    """One prompt's components [N], or their means over prompts: truth and estimates by name."""

    prompt_id: str
    truth: Numbers
    estimates: dict[str, Numbers]

    @property
    def q(self) -> Numbers | None:
        """f''(0), from HVP = AP + ½ q; None where HVP is not scored."""
        if HVP not in self.estimates:
            return None
        return 2 * (self.estimates[HVP] - self.estimates[AP])

    def components(self, policy: str) -> Components:
        """What a policy knows beforehand; q and its scale only where it pays for q."""
        ap = self.estimates[AP]
        scales, keys = {"score": with_median(np.abs(ap))}, {}
        if policy in SECOND_ORDER and self.q is not None:
            scales[HALF_Q] = with_median(np.abs(self.q) / 2)
            keys = {HALF_Q: np.abs(self.q) / 2, RHO: flagging_score(ap, self.q)}
        return Components(ap, scales, keys)


def screening(
    scores: pd.DataFrame,
    costs: pd.DataFrame | None = None,
    policies: Sequence[str] = POLICIES,
    budgets: Sequence[float] = BUDGETS,
    alpha: float = 0.1,
    top_k: int = 10,
    repeats: int = 25,
    tau: float = 0.5,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame ``screening``: one row per method, budget, and whether prompts are pooled.

    ``scores`` holds all components, AP among the estimators; ``costs`` the measured operations,
    without which seconds are NaN. Methods: ``policies``, those that need q where HVP is scored;
    estimators alone, Screen–Flag–Fix at ``tau`` and exact patching of all, which have no budget.
    coverage is the mean over runs (draws and prompts) of the share of the components left that lie
    in their intervals; its interval and that of bound_holds are Clopper and Pearson's, since runs
    are independent draws. recall_low, recall_high: 95% prompt bootstrap of recall at ``top_k``.
    Raises ``ScoresError`` without AP, where an operation was not measured, or as ``check_tidy``.
    """
    fields = list(_fields(scores))
    clock = None if costs is None else Seconds(costs)
    means = [_mean(fields)] if len(fields) > 1 else []
    resampling = {"n_resamples": n_resamples, "seed": seed}
    rows: list[dict[str, Any]] = []
    for pooled, group in ((False, fields), (True, means)):
        draws = repeats * (len(fields) if pooled else 1)
        for policy in _possible(policies, fields[0]):
            for budget in budgets:
                runs = [
                    _run(field, policy, budget, alpha, top_k, [seed, number, draw])
                    for number, field in enumerate(group)
                    for draw in range(draws)
                ]
                rows += [_row(runs, policy, budget, pooled, clock, resampling)] if runs else []
        for method, estimate in _references(fields[0], tau).items():
            runs = [_alone(field, estimate(field)) for field in group]
            rows += [_row(runs, method, math.nan, pooled, clock, resampling)] if runs else []
    table = pd.DataFrame(rows)
    return table.assign(n_prompts=len(fields), alpha=alpha, top_k=top_k)


def _fields(scores: pd.DataFrame) -> Iterator[Field]:
    check_tidy(scores)
    if AP not in set(scores["estimator"]):
        raise ScoresError("no scores of 'ap': add it to the estimators and score again")
    for prompt, rows in scores.groupby("prompt_id", sort=False):
        wide = rows.pivot(index=COMPONENT, columns="estimator", values="estimate").sort_index()
        truth = rows.groupby(COMPONENT)["truth"].first().sort_index()
        named = {str(name): wide[name].to_numpy(dtype=np.float64) for name in wide}
        yield Field(str(prompt), truth.to_numpy(dtype=np.float64), named)


def _mean(fields: Sequence[Field]) -> Field:
    """Means over prompts, as far as all of them have the same number of components."""
    shared = [field for field in fields if len(field.truth) == len(fields[0].truth)]
    estimates = {
        name: np.mean([field.estimates[name] for field in shared], axis=0)
        for name in shared[0].estimates
    }
    return Field("", np.mean([field.truth for field in shared], axis=0), estimates)


def _possible(policies: Sequence[str], field: Field) -> list[str]:
    return [one for one in policies if one not in SECOND_ORDER or field.q is not None]


def _references(field: Field, tau: float) -> dict[str, Callable[[Field], Numbers]]:
    """Methods that patch nothing, or everything, by name."""

    def flag_fix(one: Field) -> Numbers:
        assert one.q is not None
        ap = one.estimates[AP]
        return np.where(flagging_score(ap, one.q) > tau, one.estimates[HVP], ap)

    found: dict[str, Callable[[Field], Numbers]] = {
        name: partial(_estimate, name) for name in REFERENCES if name in field.estimates
    }
    return found | ({FLAG_FIX: flag_fix} if field.q is not None else {}) | {EXACT: _truth}


def _estimate(name: str, field: Field) -> Numbers:
    return field.estimates[name]


def _truth(field: Field) -> Numbers:
    return field.truth


class Lookup:
    """A purse that pays for so many components, and patches them by looking up the truth."""

    def __init__(self, truth: Numbers, affordable: int) -> None:
        self._truth, self._left = truth, affordable

    def left(self) -> int:
        """How many more can be patched."""
        return self._left

    def patch(self, places: Places) -> Numbers:
        """Their truths."""
        self._left -= len(places)
        return self._truth[places]


def _run(
    field: Field, policy: str, budget: float, alpha: float, top_k: int, seed: list[int]
) -> dict[str, Any]:
    """One draw: what was promised, and what is true."""
    n = len(field.truth)
    purse = Lookup(field.truth, round(budget * n))
    spent = spend(field.components(policy), purse.patch, purse, alpha, top_k, policy, seed)
    row = _recalls(field, spent.estimate) | {"patched": float(spent.exact.mean())}
    left = ~spent.exact
    if not left.any() or math.isinf(spent.certificate.quantile):
        return row
    return row | _kept(field.truth, spent, left, top_k)


def _kept(truth: Numbers, spent: Spent, left: Any, top_k: int) -> dict[str, Any]:
    """How the promises about the components left were kept."""
    size, certificate = np.abs(truth), spent.certificate
    inside = (spent.low <= truth) & (truth <= spent.high)
    above = int((size[left] > certificate.threshold).sum())
    kth = float(np.sort(size)[-min(top_k, len(size))])
    return {
        "coverage": float(inside[left].mean()),
        "width": float((spent.high - spent.low)[left].mean()) / kth if kth else math.nan,
        "at_most": certificate.at_most,
        "above": above,
        "bound_holds": float(above <= certificate.at_most),
    }


def _alone(field: Field, estimate: Numbers) -> dict[str, Any]:
    return _recalls(field, estimate) | {"patched": float(estimate is field.truth)}


def _recalls(field: Field, estimate: Numbers) -> dict[str, Any]:
    """Share of the true top k in the estimated one; NaN for k beyond the components."""
    true, guessed = (np.argsort(-np.abs(x), kind="stable") for x in (field.truth, estimate))
    return {"prompt_id": field.prompt_id, "n_components": len(field.truth)} | {
        f"recall_{k}": len(np.intersect1d(true[:k], guessed[:k])) / k if k <= len(true) else np.nan
        for k in KS
    }


def _row(
    runs: Sequence[dict[str, Any]],
    method: str,
    budget: float,
    pooled: bool,
    clock: Seconds | None,
    resampling: Mapping[str, int],
) -> dict[str, Any]:
    """Means over runs, prompts apart for the bootstrap, and what the method takes."""
    table = pd.DataFrame(runs).reindex(
        columns=["prompt_id", "n_components", *NUMBERS, *(f"recall_{k}" for k in KS)]
    )
    judged = table.dropna(subset="coverage")
    coverage, bound = float(judged["coverage"].mean()), float(judged["bound_holds"].mean())
    n, n_runs = int(table["n_components"].max()), len(judged)
    low, high = binomial_interval(coverage, n_runs)
    bound_low, bound_high = binomial_interval(bound, n_runs)
    patched = float(table["patched"].mean())
    seconds = exact = math.nan
    if clock is not None:
        seconds, exact = _seconds(clock, method, budget, patched, n)
    return {
        **{"method": method, "budget": budget, "pooled": pooled, "n_components": n},
        **{"n_runs": n_runs, "coverage": coverage},
        **{"coverage_low": low, "coverage_high": high, "width": float(judged["width"].median())},
        **{"at_most": float(judged["at_most"].median()), "above": float(judged["above"].mean())},
        **{"bound_holds": bound, "bound_low": bound_low, "bound_high": bound_high},
        **{f"recall_{k}": float(table[f"recall_{k}"].mean()) for k in KS},
        **{"patched": patched, "seconds": seconds, "cost_share": seconds / exact},
        **dict(zip(("recall_low", "recall_high"), _ends(table, resampling), strict=True)),
    }


def _seconds(
    clock: Seconds, method: str, budget: float, patched: float, n: int
) -> tuple[float, float]:
    """Seconds of a method, patches taken as one batch, and of patching everything."""
    exact = clock.of(EXACT, n)
    if math.isnan(budget):
        return clock.of(HVP if method == FLAG_FIX else method, n), exact
    seconds = clock.of(f"{SCREENED}_{round(patched * n)}", n)
    if method in SECOND_ORDER:  # q of all, which holds AP
        seconds += clock.of(HVP, n) - clock.of(AP, n)
    return seconds, exact


def _ends(runs: pd.DataFrame, resampling: Mapping[str, int]) -> tuple[float, float]:
    """Prompt bootstrap of the mean recall of the true ten largest."""
    values = runs.groupby("prompt_id", sort=False)["recall_10"].mean().dropna().to_numpy()
    if not len(values):
        return math.nan, math.nan
    return bootstrap_interval(
        values, n_resamples=resampling["n_resamples"], seed=resampling["seed"]
    )
