"""What one pass tells of all components: scores, and what an interval's width may scale with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from hvp_patching.baselines import BASELINES, COSTS
from hvp_patching.certified.budget import CURVATURE, REVERSE, RUNS
from hvp_patching.metrics.reliability import flagging_score
from hvp_patching.metrics.spending import HALF_Q, RHO, SECOND_ORDER, Components, with_median
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.gradients import component_sums, hook_gradients
from hvp_patching.paths.jets import Jets, path_jets
from hvp_patching.paths.metric import AnyMetric
from hvp_patching.paths.rows import Request as Nodes
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.sites import Component, Site

AP = "ap"


@dataclass(frozen=True)
class Request:
    """What is screened, and how: the arguments of `screen` that every prompt shares."""

    model: Any
    site: Site
    score: str
    policy: str
    direction: str
    metric: AnyMetric
    components: Sequence[Component]
    options: dict[str, Any]  # backend and memory, of path_jets

    def jets(self, tokens: TokenPair, nodes: Nodes, components: Sequence[Component]) -> Jets:
        """path_jets of some components of one prompt. Errors as there."""
        return path_jets(
            self.model,
            tokens,
            self.site.name,
            nodes,
            components=components,
            direction=self.direction,
            metric=self.metric,
            **self.options,
        )


def check_score(name: str) -> None:
    """``ValueError`` unless the name is AP's or a baseline's."""
    if name != AP and name not in BASELINES:
        raise ValueError(f"unknown score '{name}'; choose {AP}, {', '.join(BASELINES)}")


def scoring_passes(request: Request) -> int:
    """Forward passes of one prompt's scores: both runs, its reverse passes, and q where needed."""
    reverse = 1 if request.score == AP else COSTS[request.score](request.model)
    q = CURVATURE * len(request.components) if request.policy in SECOND_ORDER else 0
    return RUNS + REVERSE * reverse + q


@dataclass(frozen=True)
class Scored:
    """One prompt's components [N] as a table, their scores, norms by name, q; m unpatched."""

    table: pd.DataFrame
    scores: torch.Tensor
    norms: dict[str, torch.Tensor]
    q: torch.Tensor | None
    unpatched: float


def score_prompt(request: Request, tokens: TokenPair) -> Scored:
    """Scores, ‖δ‖ and, for AP, ‖gradient‖ of one prompt's components; q where the policy asks.

    ``ValueError`` for scores that are not finite, or as in path_jets.
    """
    site, how = request.site, (request.direction, request.metric)
    run = base_run(request.model, tokens, site, *how)
    chosen, first = request.components, np.concatenate([[0], np.cumsum(run.sizes)])
    places = torch.tensor([int(first[layer]) + index for layer, index in chosen])

    def of(columns: torch.Tensor) -> torch.Tensor:
        return columns[0].cpu()[places]

    norms = {"delta": of(component_sums(site, run.delta, run.delta)).sqrt()}
    if request.score == AP:
        gradients = hook_gradients(run, run.names, [torch.zeros_like(d) for d in run.delta])
        scores = of(component_sums(site, gradients, run.delta))
        norms["gradient"] = of(component_sums(site, gradients, gradients)).sqrt()
    else:
        baseline = BASELINES[request.score]
        found = baseline(request.model, tokens, site.name, how[0], metric=how[1])
        scores = found.double().cpu()[places]
    table = pd.DataFrame(chosen, columns=["layer", "index"])
    check_finite(tokens, table, scores, f"score '{request.score}'")
    q = None
    if request.policy in SECOND_ORDER:
        q = request.jets(tokens, {0.0: 2}, chosen).at(0.0, 2)
    # by the passes that patch, so that what they round away is not taken for an effect
    unpatched = float(request.jets(tokens, {0.0: 0}, chosen[:1]).at(0.0, 0))
    return Scored(table, scores, norms, q, unpatched)


def check_finite(tokens: TokenPair, table: pd.DataFrame, values: torch.Tensor, what: str) -> None:
    """``ValueError`` that names the first component whose value is NaN or infinite."""
    bad = (~values.isfinite()).nonzero().flatten().tolist()
    if bad:
        row = table.iloc[bad[0]]
        raise ValueError(
            f"the {what} of {tokens.prompt_id} at layer {row['layer']}, index {row['index']} is "
            f"{float(values[bad[0]])}; load the model in float32 or float64, or leave it out"
        )


def pooled(scored: Sequence[Scored]) -> Components:
    """The components of one or several prompts: means over prompts, and the scales they give.

    The first scale is that of |score|; a scale is a size plus its median, so that none vanishes.
    """
    scores = _mean([one.scores for one in scored])
    sizes = {"score": np.abs(scores)}
    for name in scored[0].norms:
        sizes[name] = _mean([one.norms[name] for one in scored])
    if "gradient" in sizes:  # |score| <= ‖gradient‖ ‖δ‖
        products = [one.norms["gradient"] * one.norms["delta"] for one in scored]
        sizes["gradient_delta"] = _mean(products)
    keys = {}
    if scored[0].q is not None:
        q = _mean([one.q for one in scored])
        sizes[HALF_Q] = np.abs(q) / 2
        keys = {HALF_Q: np.abs(q) / 2, RHO: flagging_score(scores, q)}
    scales = {name: with_median(size) for name, size in sizes.items()}
    return Components(scores, scales, keys)


def _mean(columns: Sequence[torch.Tensor | None]) -> np.ndarray:
    found = [column for column in columns if column is not None]
    return torch.stack(found).double().mean(0).numpy()
