"""Wall clock of every method that scores all edges (rule compute_edge_timing, Table 14).

A stopwatch around each method on each prompt; a killed run goes on at the next prompt. What has a
price an edge is timed on the first few prompts alone, on some edges.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from hvp_patching.cache import PromptKey, Store, prompt_fields, remember
from hvp_patching.checking import Subject
from hvp_patching.circuits.graph import EdgeGraph, graph_of
from hvp_patching.circuits.method_names import replaces, unit_of
from hvp_patching.circuits.methods import SCREEN
from hvp_patching.circuits.scores import most_moved
from hvp_patching.circuits.timed import timed_scores
from hvp_patching.measuring.edge_sample import TIMED_VERSION, place_text, stored_timed_scores
from hvp_patching.measuring.edges import EDGES, stored_scores
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.metrics.reliability import flagging_score
from hvp_patching.paths.metric import logit_difference
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.store import Entry

EAP, OWN, EXACT = "eap", "hvp_own", "exact"
NOT_FLAGGING = -1.0  # the store takes no NaN
Row = dict[str, Any]


@dataclass(frozen=True)
class TimingKey(PromptKey):
    """Everything that a method's seconds on all edges of one prompt depend on.

    tau: above which reliability score an edge counts as flagged; place: processor and threads.
    """

    method: str
    tau: float
    place: str
    version: int = TIMED_VERSION


def measure_edge_timing(
    measurement: Measurement,
    store: Store,
    methods: Sequence[str],
    n_sampled: int,
    n_edges: int,
    tau: float = 0.5,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame ``edge_timing``: one row a prompt and method, seconds without and with captures.

    methods: those whose price does not count edges; EAP and EAP-IG (inputs, 5) are always among
    them. On the first `n_sampled` prompts own HVP and exact patching of `n_edges` random edges are
    timed too, and the correction of the `n_edges` edges that EAP-IG moves most (their seconds have
    those of EAP and EAP-IG in them). ValueError for a method with a price an edge, and as in
    edge_scores.
    """
    m, asked = measurement, _checked(methods)
    graph = graph_of(m.model)
    n_edges = min(n_edges, graph.n_edges)
    sampled = {tokens.prompt_id for tokens in m.prompts[:n_sampled]}

    def measure(subject: Subject) -> pd.DataFrame:
        tokens = subject.tokens
        rows = list(_whole(m, store, tokens, asked, tau))
        if tokens.prompt_id in sampled:
            rows += _of_some(m, store, tokens, graph, n_edges, tau, seed, rows)
        about = {"n_layers": graph.n_layers, "n_edges": graph.n_edges}
        return pd.DataFrame(rows).assign(**about, place=place_text(m.model))

    return m.table(measure)


def _whole(
    measurement: Measurement,
    store: Store,
    tokens: TokenPair,
    methods: Sequence[str],
    tau: float,
) -> Iterator[Row]:
    """Seconds of methods on all edges, and which share their reliability score flags."""
    m, metric = measurement, logit_difference()
    fields = prompt_fields(m.model, tokens, EDGES, "noising", metric)
    fields |= {"tau": tau, "place": place_text(m.model)}
    keys: dict[str, PromptKey] = {name: TimingKey(**fields, method=name) for name in methods}

    def compute(missing: Sequence[str]) -> dict[str, Entry]:
        asked = dict.fromkeys([EAP, *missing])  # against EAP edges are flagged
        found = timed_scores(
            m.model, tokens, {name: (name, None) for name in asked}, metric, m.memory, m.advance
        )
        ap = found.methods[EAP].scores
        return {
            name: _entry(
                found.methods[name].seconds,
                found.captures,
                _flagged(name, ap, found.methods[name].scores, tau),
            )
            for name in missing
        }

    entries, _ = remember(store, keys, m.model, compute)
    for name in methods:
        seconds, captures, flagged = entries[name]["numbers"].tolist()
        yield _row(name, seconds, captures, flagged)


def _of_some(
    measurement: Measurement,
    store: Store,
    tokens: TokenPair,
    graph: EdgeGraph,
    n: int,
    tau: float,
    seed: int,
    whole: Sequence[Row],
) -> list[Row]:
    """Own HVP and exact patching of n random edges, and of those that EAP-IG moves most."""
    scores = stored_scores(measurement, store, tokens, [EAP, SCREEN])
    drawn = random.Random(f"{seed}/{tokens.prompt_id}").sample(range(graph.n_edges), n)
    places = torch.zeros(graph.n_edges, dtype=torch.bool)
    places[drawn] = True
    some = torch.zeros_like(graph.mask)
    some[graph.mask] = places
    moved = most_moved(scores[SCREEN] - scores[EAP], graph.mask, n)
    names = {OWN: (OWN, some), EXACT: (EXACT, some)}
    names |= {f"selective_own_{n}": (OWN, moved), f"selective_exact_{n}": (EXACT, moved)}
    found, captures = stored_timed_scores(measurement, store, tokens, names, lambda fraction: None)
    before = sum(row["seconds"] for row in whole if row["method"] in (EAP, SCREEN))
    rows = []
    for name, (values, seconds) in found.items():
        flagged = _flagged(name, scores[EAP][places], values, tau) if name == OWN else NOT_FLAGGING
        replacing = name not in (OWN, EXACT)
        units = (1, 1) if replacing else (n, graph.n_edges)
        rows.append(_row(name, seconds + before * replacing, captures, flagged, units))
    return rows


def _flagged(name: str, ap: torch.Tensor, scores: torch.Tensor, tau: float) -> float:
    """The share of edges whose second-order term, which scores add to EAP, is above tau · |EAP|."""
    if not name.startswith(("hvp_", "selective")):
        return NOT_FLAGGING
    rho = flagging_score(ap.numpy(), 2 * (scores - ap).numpy())
    return float((rho > tau).mean())


def _entry(*numbers: float) -> Entry:
    return {"numbers": torch.tensor(numbers, dtype=torch.float64)}


def _row(
    name: str, seconds: float, captures: float, flagged: float, units: tuple[int, int] = (1, 1)
) -> Row:
    return {
        "method": name,
        "per": unit_of(name),
        "n_scored": units[0],
        "n_units": units[1],
        "seconds": seconds,
        "captures": captures,
        "flagged_share": float("nan") if flagged == NOT_FLAGGING else flagged,
    }


def _checked(methods: Sequence[str]) -> list[str]:
    for name in methods:
        if unit_of(name) != "prompt" or replaces(name):
            raise ValueError(
                f"method '{name}' has a price by edges or readers and is not timed on all edges; "
                "leave it out: own HVP and exact patching are timed on some edges"
            )
    return list(dict.fromkeys([EAP, SCREEN, *methods]))
