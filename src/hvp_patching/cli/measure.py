"""Exact and estimated effects of every component of a site, pair by pair, and their ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hvp_patching import __version__
from hvp_patching.baselines import BASELINES
from hvp_patching.cli.run import Column, Run, component_name
from hvp_patching.cli.session import Progress, Session
from hvp_patching.estimators import HVP, by_name, required_jets
from hvp_patching.frames import SMALLEST_SAMPLE
from hvp_patching.metrics.components import mean_intervals
from hvp_patching.models.environment import current_environment
from hvp_patching.paths.base_run import shared_base_runs
from hvp_patching.paths.jets import Jets, path_jets
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.reporting.style import method_label
from hvp_patching.screening import reliability

ENDS = {0.0: 0, 1.0: 0}
EFFECT, RHO = "effect", "rho"
KEYS = ["prompt_id", "layer", "index"]
TRUSTED = 0.5  # the paper's threshold of rho
UNITS = {"logprob": "nats", "logit_difference": "logits"}


def exact_effects(session: Session) -> Run:
    """f(1) − f(0) of every component; errors as path_jets."""

    def measure(tokens: TokenPair, tell: Progress) -> pd.DataFrame:
        jets = _jets(session, tokens, ENDS, tell)
        return _rows(tokens, jets, {EFFECT: jets.at(1.0, 0) - jets.at(0.0, 0)})

    table = pd.concat(session.per_pair("patching", measure), ignore_index=True)
    unit = UNITS[session.asked.metric]
    return _ranked(session, table, {EFFECT: f"effect ({unit})"}, "Exact effects")


def estimated_effects(session: Session, names: Sequence[str], exact: bool) -> Run:
    """Every estimate beside ρ, and beside the exact effect where it was asked for."""
    rules = [by_name(name) for name in names if name not in BASELINES]
    nodes = required_jets([HVP(), *rules])

    def measure(tokens: TokenPair, tell: Progress) -> pd.DataFrame:
        with shared_base_runs():
            found = _exact(session, tokens, tell) if exact else {}
            jets = _jets(session, tokens, nodes, tell, 0.5 if exact else 1.0)
            found |= {name: _estimate(session, tokens, name, jets) for name in names}
        return _rows(tokens, jets, found | {RHO: reliability(jets)})

    table = pd.concat(session.per_pair("estimating", measure), ignore_index=True)
    headings = {EFFECT: f"exact ({UNITS[session.asked.metric]})"} if exact else {}
    headings |= {name: method_label(name) for name in names}
    return _ranked(session, table, headings, "Estimated effects")


def _exact(session: Session, tokens: TokenPair, tell: Progress) -> dict[str, Any]:
    jets = _jets(session, tokens, ENDS, tell, 0.5)
    return {EFFECT: jets.at(1.0, 0) - jets.at(0.0, 0)}


def _estimate(session: Session, tokens: TokenPair, name: str, jets: Jets) -> Any:
    if name in BASELINES:
        return BASELINES[name](session.model, tokens, **session.options())
    return by_name(name)(jets)


def _jets(
    session: Session,
    tokens: TokenPair,
    nodes: dict[float, int],
    tell: Progress,
    share: float = 1.0,
) -> Jets:
    """Jets of all components; `share` of the prompt's work lies in them."""
    return path_jets(
        session.model,
        tokens,
        nodes=nodes,
        memory=session.memory,
        progress=lambda fraction: tell(fraction * share),
        **session.options(),
    )


def _rows(tokens: TokenPair, jets: Jets, values: dict[str, Any]) -> pd.DataFrame:
    """One prompt's rows; ValueError where a number but ρ is not finite."""
    found = {name: np.asarray(value.detach().cpu(), dtype=float) for name, value in values.items()}
    for name, numbers in found.items():
        if name != RHO and not np.isfinite(numbers).all():
            raise ValueError(
                f"prompt {tokens.prompt_id!r}: {int((~np.isfinite(numbers)).sum())} of "
                f"{len(numbers)} numbers of {name} are not finite; try float64"
            )
    return jets.components.assign(prompt_id=tokens.prompt_id, **found)[[*KEYS, *found]]


def _ranked(session: Session, table: pd.DataFrame, headings: dict[str, str], title: str) -> Run:
    """Means over prompts with intervals, largest first by the first of the headings."""
    first = next(iter(headings))
    n = len(session.pairs)
    keys = table[KEYS[1:]].iloc[: len(table) // n].reset_index(drop=True)
    frame = keys.copy()
    names = [component_name(session.asked.site, *key) for key in keys.itertuples(index=False)]
    frame.insert(0, "component", names)
    columns = []
    for name, heading in headings.items():
        mean, low, high = mean_intervals(_by_component(table, name, n))
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = mean, low, high
        columns.append(Column(name, heading, f"{name}_low", f"{name}_high"))
    if RHO in table:
        frame[RHO] = _medians(_by_component(table, RHO, n))
        columns.append(Column(RHO, "ρ"))
    order = frame[first].abs().sort_values(ascending=False, kind="stable").index
    frame = frame.loc[order].reset_index(drop=True)
    frame.insert(0, "rank", range(1, len(frame) + 1))
    what = headings[first].removesuffix(f" ({UNITS[session.asked.metric]})")
    facts = facts_of(session)
    return Run(title, facts, frame, tuple(columns), table, sentence(frame, n, what))


def _by_component(table: pd.DataFrame, name: str, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[n_components, n_prompts]: the rows of every prompt have the same order."""
    return np.ascontiguousarray(table[name].to_numpy(dtype=float).reshape(n, -1).T)


def _medians(values: np.ndarray[Any, Any]) -> list[float]:
    """Medians over the prompts that have one; NaN where none has."""
    known = [row[~np.isnan(row)] for row in values]
    return [float(np.median(row)) if len(row) else math.nan for row in known]


def sentence(frame: pd.DataFrame, n: int, what: str) -> str:
    """What is ranked, over how many prompts, and what the intervals are."""
    prompts = f"{n} prompts" if n > 1 else "one prompt"
    said = f"{len(frame)} components over {prompts}, ranked by |{what}|"
    if n == 1:
        said += "; one prompt has no interval"
    else:
        said += "; intervals are 95% bootstrap intervals over prompts"
        if n < SMALLEST_SAMPLE:
            said += f", which say little below {SMALLEST_SAMPLE} prompts"
    if RHO in frame:
        above = int((frame[RHO] > TRUSTED).sum())
        said += f"; ρ is above {TRUSTED} for {above} of {len(frame)}: trust AP there least"
    return said + "."


def facts_of(session: Session) -> dict[str, Any]:
    """How the numbers came about, as JSON values."""
    asked, model, source = session.asked, session.model, session.source
    return {
        "command": asked.command,
        "model": model.hvp_spec.name,
        "identity": model.hvp_identity,
        "parameters": int(model.hvp_parameters),
        "prepend_bos": bool(model.hvp_spec.prepend_bos),
        "dtype": asked.dtype,
        "site": asked.site,
        "metric": asked.metric,
        "direction": asked.direction,
        "pairs": str(source.path) if source.path else "command line",
        "pairs_sha256": source.sha256,
        "prompts": len(session.pairs),
        "left_out": list(session.left_out),
        "seconds": round(session.seconds, 3),
        "environment": current_environment(model).text(),
        "hvp_patching": __version__,
    }
