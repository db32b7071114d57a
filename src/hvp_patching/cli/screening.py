"""`hp.screen` from a shell: its terms checked before anything is loaded, its result as a run."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hvp_patching.cli.progress import bar
from hvp_patching.cli.run import Column, Run, component_name
from hvp_patching.cli.session import Session


@dataclass(frozen=True)
class Terms:
    """What a screening may cost, how many components are asked for, and how sure it must be."""

    budget: str
    top_k: int
    alpha: float
    seed: int


def checked_terms(budget: str, top_k: int, alpha: float, seed: int) -> Terms:
    """The terms; ValueError for a budget that is none, and alpha outside (0, 1)."""
    from hvp_patching.certified.budget import Budget
    from hvp_patching.metrics.certificates import check_alpha

    Budget.parse(budget)
    return Terms(budget, top_k, check_alpha(alpha), seed)


def screened(session: Session, terms: Terms) -> Run:
    """The pairs' means screened together; errors as hp.screen."""
    import hvp_patching as hp
    from hvp_patching.cli.measure import UNITS, facts_of
    from hvp_patching.reporting.style import method_label

    with bar("screening", 100, "%") as advance:
        found = hp.screen(
            session.model,
            session.pairs,
            budget=terms.budget,
            top_k=terms.top_k,
            alpha=terms.alpha,
            seed=terms.seed,
            memory=session.memory,
            progress=lambda fraction: advance(100 * fraction),
            **session.options(),
        )
    record = json.loads(found.to_json())
    (part,) = record["parts"]
    frame = found.to_frame().drop(columns="prompt_id")
    keys = frame[["layer", "index"]].itertuples(index=False)
    names = [component_name(session.asked.site, *key) for key in keys]
    frame.insert(0, "component", names)
    frame.insert(0, "rank", frame.pop("rank"))
    facts = facts_of(session) | {
        name: record[name] for name in ("budget", "top_k", "alpha", "seed", "policy", "score")
    }
    facts |= {"cost": record["cost"], "certificate": part["certificate"]}
    columns = (
        Column("estimate", f"effect ({UNITS[session.asked.metric]})", "low", "high"),
        Column("score", method_label(found.score)),
    )
    empty = frame.iloc[:0].assign(prompt_id="")
    return Run("Screening", facts, frame, columns, empty, found.sentence())
