"""Scores of edges with a stopwatch around each method (Table 14, tables/edges).

What every method needs first, both runs of the pair with all writers' outputs, is timed apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch

from hvp_patching.circuits.edge_run import EdgeRun, edge_run
from hvp_patching.circuits.graph import graph_of
from hvp_patching.circuits.method_names import unit_of
from hvp_patching.circuits.methods import Score, method_by_name
from hvp_patching.circuits.single_edges import exact_effects
from hvp_patching.circuits.ungrouped import edge_model
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import shared_base_runs
from hvp_patching.paths.metric import AnyMetric, as_metric, logit_difference
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, no_progress
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair

_SEEN: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # hooks that a model has warmed up


@dataclass(frozen=True)
class Timed:
    """One method's scores of one pair, float64 [n_edges], and its seconds without the captures."""

    scores: torch.Tensor
    seconds: float


@dataclass(frozen=True)
class TimedScores:
    """Seconds of both runs of a pair with all captures, and what was asked by its name."""

    captures: float
    methods: Mapping[str, Timed]


@dataclass
class Stopwatch:
    """Seconds between the beginning and the end of `running`, a GPU's work included."""

    device: torch.device
    seconds: float = field(default=0.0, init=False)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time what is inside."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds = time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@isolated()
def timed_scores(
    model: Any,
    pair: PromptPair | TokenPair,
    asked: Mapping[str, tuple[str, Any]],
    metric: AnyMetric = logit_difference(),  # noqa: B008
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
) -> TimedScores:
    """Scores and seconds of methods on one pair, each on its own edges (section 4.4, Table 14).

    asked: names of one's own -> (method, edges as edge_scores takes them). What a model does once,
    at its first pass or at the first row of a hook, is done before the clock runs. ValueError for
    methods whose edges are chosen by all pairs together, and as in edge_scores.
    """
    tokens, graph = as_token_pair(model, pair), graph_of(model)
    chosen = {
        name: (_score(method), graph.select(edges)) for name, (method, edges) in asked.items()
    }
    units = {name: unit_of(method) for name, (method, _) in asked.items()}
    watch = Stopwatch(next(model.parameters()).device)
    found: dict[str, Timed] = {}
    with edge_model(model) as split, shared_base_runs(share=False):
        if split not in _SEEN:
            _SEEN[split] = set()
            method_by_name("eap").score(
                edge_run(split, tokens, graph, as_metric(metric)), graph.mask, memory, no_progress
            )
        with watch.running():
            run = edge_run(split, tokens, graph, as_metric(metric))
        captures = watch.seconds
        run.flat_delta  # noqa: B018  (shared by all methods, and no method's own)
        for name, (score, mask) in chosen.items():
            if units[name] != "prompt":
                _warm_up(run, mask, memory)
            with watch.running():
                scores = score(run, mask, memory, no_progress)
            if not bool(scores.isfinite().all()):
                raise ValueError(
                    f"method '{asked[name][0]}' gives scores that are not finite on "
                    f"{run.run.prompt}; load the model in float64"
                )
            found[name] = Timed(scores, watch.seconds)
            progress(1 / len(chosen))
    return TimedScores(captures, found)


def _score(name: str) -> Score:
    method = method_by_name(name)
    if method.replaced:
        raise ValueError(
            f"method '{name}' chooses its edges by all pairs together; time what replaces them on "
            "edges of your own"
        )
    return method.score


def _warm_up(run: EdgeRun, mask: torch.Tensor, memory: int) -> None:
    """Let the batch grow at every hook of the edges once: how it does is found by trial."""
    seen = _SEEN[run.run.model]
    first: dict[str, tuple[int, int]] = {}
    for row, column in mask.nonzero().tolist():
        first.setdefault(run.graph.place(column)[0], (row, column))
    new = {hook: edge for hook, edge in first.items() if hook not in seen}
    if new:
        exact_effects(run, list(new.values()), memory)
        seen |= set(new)
