"""Sets of components patched together: the joint effect, and what scores of single ones say of it.

A predictor is a sum over the members of a set, or a rule along the set's own path (paths/joint.py):

- sum_exact: Σ Δ_i; sum_RULE: Σ of an estimator of `hp.estimators`, such as sum_ap and sum_hvp;
- joint_RULE: the estimator along the joint path; joint_hvp is Σ AP_i + ½ Σ_ij C_ij with all pairs
  of the set and every q_i = C_ii, at the cost of one row;
- exact_pairs: Σ Δ_i + Σ_i<j C_ij.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from hvp_patching.estimators import by_name, required_jets
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run, shared_base_runs
from hvp_patching.paths.jets import Jets, path_jets
from hvp_patching.paths.joint import Members, joint_jets
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, Request, no_progress
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import Component, Site, get_site, resolve_components

PREDICTORS = (
    *("sum_exact", "exact_pairs", "sum_ap", "sum_hvp"),
    *("joint_hvp", "joint_ms_hvp_5", "joint_ig_10"),
)
EXACT, PAIRS, SUM, JOINT = "sum_exact", "exact_pairs", "sum_", "joint_"
ENDS: Request = {0.0: 0, 1.0: 0}
BEND: Request = {0.0: 2}
Sets = Mapping[Any, Iterable[Component]] | Sequence[Iterable[Component]]


@isolated()
def joint_effects(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str,
    sets: Sets,
    predictors: Sequence[str] = PREDICTORS,
    direction: str = "noising",
    backend: str = "auto",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
    *,
    metric: AnyMetric = LOGPROB,
) -> pd.DataFrame:
    """Effect of patching each set of components together, beside what predicts it.

    sets: lists of (layer, index), numbered, or a mapping from names of one's own. One row a set and
    predictor: set_id, size, predictor, value, exact = F(1) − F(0), in the metric's units. A set is
    held at the other run's values in one forward pass, many sets side by side.
    ValueError for no sets, one that is empty, has a component twice or one that the model lacks, an
    unknown predictor, and as in path_jets.
    """
    predictors = [predictors] if isinstance(predictors, str) else list(predictors)
    alone, together = needed(predictors)
    where, tokens = get_site(site), as_token_pair(model, pair)
    with shared_base_runs():
        run = base_run(model, tokens, where, direction, metric)
        found = resolve_sets(where, run.sizes, sets)
        joint = joint_jets(run, list(found.values()), together, backend, memory, progress)
        jets = Jets(joint, tuple(together), pd.DataFrame({"index": range(len(found))}))
        singles = None
        if alone:
            members = sorted({member for own in found.values() for member in own})
            singles = path_jets(
                *(model, tokens, site, alone, 0, backend, members, direction, memory),
                metric=metric,
            )
    table = predicted(predictors, list(found.values()), jets, singles)
    frame = pd.DataFrame(
        {"set_id": list(found), "size": [len(own) for own in found.values()]}
    ).assign(**table)
    frame = frame.melt(["set_id", "size", "exact"], var_name="predictor", ignore_index=False)
    frame = frame.sort_index(kind="stable").reset_index(drop=True)  # set by set
    return frame[["set_id", "size", "predictor", "value", "exact"]]


def resolve_sets(site: Site, sizes: Sequence[int], sets: Sets) -> dict[Any, Members]:
    """Every set's components in (layer, index) order, by its name or number.

    ValueError for no sets, and for the first whose components resolve_components refuses.
    """
    named = sets if isinstance(sets, Mapping) else dict(enumerate(_listed(sets)))
    if not named:
        raise ValueError("no sets of components given; give lists of (layer, index) pairs")
    found: dict[Any, Members] = {}
    for name, members in named.items():
        try:
            chosen = resolve_components(site, sizes, [] if members is None else members)
        except ValueError as error:
            raise ValueError(f"set {name!r}: {error}") from None
        found[name] = tuple(sorted(chosen))
    return found


def _listed(sets: Any) -> list[Any]:
    try:
        return list(sets)
    except TypeError:
        raise ValueError(
            f"sets are lists of (layer, index) pairs, or a mapping of them, not {sets!r}"
        ) from None


def needed(predictors: Sequence[str]) -> tuple[dict[float, int], dict[float, int]]:
    """What predictors need of every component's own path ({} for nothing), and of the joint one.

    The latter has both ends, whose difference is the joint effect. ValueError for no predictor or
    an unknown one.
    """
    if not predictors:
        raise ValueError(f"no predictors given; choose some of: {', '.join(PREDICTORS)}")
    for name in predictors:
        if name not in (EXACT, PAIRS) and not name.startswith((SUM, JOINT)):
            raise ValueError(
                f"unknown predictor '{name}'; choose {EXACT}, {PAIRS}, or {SUM}RULE or {JOINT}RULE "
                f"with an estimator, such as {PREDICTORS[-1]}"
            )
    of_one = required_jets([by_name(name.removeprefix(SUM)) for name in predictors if _sums(name)])
    of_set = required_jets(
        [by_name(name.removeprefix(JOINT)) for name in predictors if name.startswith(JOINT)]
    )
    if {EXACT, PAIRS} & set(predictors):
        of_one = _with(of_one, ENDS)
    if PAIRS in predictors:
        of_one, of_set = _with(of_one, BEND), _with(of_set, BEND)
    return of_one, _with(of_set, ENDS)


def _sums(name: str) -> bool:
    """Whether it is the sum of an estimator."""
    return name.startswith(SUM) and name != EXACT


def _with(request: Request, more: Request) -> dict[float, int]:
    nodes = sorted({*request, *more})
    return {node: max(request.get(node, 0), more.get(node, 0)) for node in nodes}


def predicted(
    predictors: Sequence[str], sets: Sequence[Members], joint: Jets, singles: Jets | None
) -> dict[str, Any]:
    """Arrays over the sets: exact, and every predictor's value; in the metric's units.

    joint, singles: jets that hold what `needed` says, of the sets and of their members (and of
    others; None where nothing is needed of them).
    """
    found = {"exact": (joint.at(1.0, 0) - joint.at(0.0, 0)).numpy()}
    for name in predictors:
        if name.startswith(JOINT):
            found[name] = by_name(name.removeprefix(JOINT))(joint).numpy()
        elif singles is not None:
            found[name] = _summed(name, _membership(sets, singles), singles, joint).numpy()
    return found


def _summed(name: str, belongs: torch.Tensor, singles: Jets, joint: Jets) -> torch.Tensor:
    if _sums(name):
        return belongs @ by_name(name.removeprefix(SUM))(singles)
    exact = belongs @ (singles.at(1.0, 0) - singles.at(0.0, 0))
    if name == EXACT:
        return exact
    return exact + (joint.at(0.0, 2) - belongs @ singles.at(0.0, 2)) / 2


def _membership(sets: Sequence[Members], singles: Jets) -> torch.Tensor:
    """1 where a set has a component, float64 [n_sets, n_components]."""
    table = singles.components[["layer", "index"]].itertuples(index=False, name=None)
    places = {component: place for place, component in enumerate(table)}
    belongs = torch.zeros(len(sets), len(places), dtype=torch.float64)
    for row, members in zip(belongs, sets, strict=True):
        row[[places[member] for member in members]] = 1
    return belongs
