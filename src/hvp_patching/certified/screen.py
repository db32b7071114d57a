"""`screen`: scores of all components, exact effects of some, and what is certain of the others."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch

from hvp_patching.certified.budget import Allowance, Budget, Meter
from hvp_patching.certified.result import Cost, Part, Screening
from hvp_patching.certified.scoring import (
    AP,
    Request,
    Scored,
    check_finite,
    check_score,
    pooled,
    score_prompt,
    scoring_passes,
)
from hvp_patching.isolation import isolated
from hvp_patching.metrics.certificates import check_alpha
from hvp_patching.metrics.spending import LARGEST_UPPER, POLICIES, spend
from hvp_patching.metrics.walking import Numbers, Patch, Places
from hvp_patching.paths.base_run import base_run, shared_base_runs
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.precision import keep_precision
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, no_progress
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pairs
from hvp_patching.sites import Component, get_site, resolve_components, run_model


@isolated()
def screen(
    model: Any,
    pairs: PromptPair | TokenPair | Iterable[PromptPair | TokenPair],
    site: str | None = None,
    budget: int | str = "200 passes",
    top_k: int = 10,
    alpha: float = 0.1,
    *,
    policy: str = LARGEST_UPPER,
    score: str = AP,
    pool: bool = True,
    seed: int = 0,
    components: Iterable[Component] | None = None,
    direction: str = "noising",
    metric: AnyMetric = LOGPROB,
    backend: str = "auto",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
) -> Screening:
    """Scores of all components, exact effects of as many as a budget pays, intervals of the rest.

    site: 'attn_heads' by default. budget: forward passes (200, '200 passes'), where a patched
    component counts as one a prompt, a reverse pass as three, and both unpatched runs as two; or
    time ('60s') by the clock.
    top_k: how many of the largest |effects| are asked for; alpha: the share of the components left
    that may lie outside their intervals, and of draws whose bound on the missed may fail.
    policy: 'largest_upper' patches next what could be largest, and ends early where none left could
    reach the top k; 'ap', 'rho', 'half_q' (these two need q of all) and 'random' spend everything.
    score: 'ap' or a baseline's name. pool: effects are means over the pairs, and a component is
    patched in all of them; False screens each pair by itself with an equal share of the budget.
    seed: of the uniform draw; with a budget in passes the result is the same each time.
    components: (layer, index) pairs, all by default; the rest as in path_jets.

    What holds, and for which components, is said in `metrics.spending` and docs/screening.md.
    Where the components are too few to calibrate, all are patched whatever the budget, and
    the result says so. ValueError for a budget that is none or does not pay the scores, alpha
    outside (0, 1), top_k beyond the components, an unknown policy or score, effects or scores that
    are not finite, no pairs, or as in path_jets.
    """
    meter, alpha = Meter(Budget.parse(budget)), check_alpha(alpha)
    top_k, seed = _whole("top_k", top_k, 1), _whole("seed", seed, 0)
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; choose one of: {', '.join(POLICIES)}")
    check_score(score)
    tokens = as_token_pairs(model, pairs)
    if not tokens:
        raise ValueError("no prompt pairs given; screen needs at least one")
    where = get_site(site or "attn_heads")
    # the model stays as it is during this call; a metric that holds a list names no shared run
    with shared_base_runs(share=_hashes(metric)):
        sizes = base_run(model, tokens[0], where, direction, metric).sizes
        chosen = resolve_components(where, sizes, components)
        if top_k > len(chosen):
            raise ValueError(f"top_k is {top_k}, but there are {len(chosen)} components to rank")
        options = {"backend": backend, "memory": memory}
        request = Request(model, where, score, policy, direction, metric, chosen, options)
        scored = _scores(request, tokens, meter)
        groups = [tokens] if pool else [[one] for one in tokens]
        parts = []
        for number, group in enumerate(groups):
            allowance = Allowance(meter, len(group), share=1 / (len(groups) - number))
            own = scored if pool else scored[number : number + 1]
            field, patch = pooled(own), _patching(request, group, own, allowance)
            report = _scaled(progress, 1 / len(groups))
            spent = spend(field, patch, allowance, alpha, top_k, policy, [seed, number], report)
            ids = tuple(one.prompt_id for one in group)
            parts.append(Part(ids, scored[0].table, field.scores, spent))
    cost = Cost(
        passes=meter.passes,
        seconds=meter.seconds,
        forward_seconds=_forward_seconds(model, tokens[0]),
        patched=sum(int(part.spent.exact.sum()) * len(part.prompt_ids) for part in parts),
        of=len(chosen) * len(tokens),
    )
    return Screening(
        tuple(parts), cost, where.name, score, policy, str(meter.budget), top_k, alpha, seed
    )


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def _patching(
    request: Request, group: Sequence[TokenPair], scored: Sequence[Scored], allowance: Allowance
) -> Patch:
    """Exact effects of components by number, means over the prompts of a group, on the clock."""

    def patch(places: Places) -> Numbers:
        started, rows = time.perf_counter(), scored[0].table.iloc[places]
        effects = [
            _exact(request, tokens, rows) - one.unpatched
            for tokens, one in zip(group, scored, strict=True)
        ]
        allowance.patched(len(places), time.perf_counter() - started)
        return torch.stack(effects).mean(0).numpy()

    return patch


def _scores(request: Request, tokens: Sequence[TokenPair], meter: Meter) -> list[Scored]:
    """Every prompt's scores, paid before any component is patched."""
    passes = scoring_passes(request) * len(tokens)
    meter.pay(passes, f"the scores of {len(tokens)} prompt{'s' * (len(tokens) > 1)}")
    scored = []
    for one in tokens:
        scored.append(score_prompt(request, one))
        meter.check_time("the scores")
    return scored


def _exact(request: Request, tokens: TokenPair, rows: pd.DataFrame) -> torch.Tensor:
    """m of every component's patched run, float64 [n_components]."""
    chosen = list(rows.itertuples(index=False, name=None))
    patched = request.jets(tokens, {1.0: 0}, chosen).at(1.0, 0)
    check_finite(tokens, rows, patched, "patched metric")
    return patched


def _forward_seconds(model: Any, tokens: TokenPair) -> float:
    """Seconds of one forward pass of the whole prompt, after all others have warmed it up."""
    ids = torch.tensor([tokens.clean_ids], device=next(model.parameters()).device)
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        started = time.perf_counter()
        run_model(model, ids, use_cache=False).cpu()
        return time.perf_counter() - started


def _hashes(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _scaled(progress: Progress, share: float) -> Progress:
    return lambda fraction: progress(share * fraction)
