"""What attributions cost on this machine: the operations they are made of, measured in one run.

Rule measure_costs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pandas as pd
import torch

from hvp_patching.baselines import BASELINES
from hvp_patching.checking import check_jets
from hvp_patching.frames import (
    BASE_RUN,
    COUNTS,
    FORWARD,
    PATCHING,
    REVERSE,
    derivative,
)
from hvp_patching.isolation import isolated
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.paths.autograd import autograd_jets
from hvp_patching.paths.automatic import auto_jets
from hvp_patching.paths.base_run import base_run, shared_base_runs
from hvp_patching.paths.gradients import site_attribution
from hvp_patching.paths.jets import BACKENDS, Backend, Jets, path_jets
from hvp_patching.paths.patches import Patch, requested_patches
from hvp_patching.paths.precision import keep_precision
from hvp_patching.paths.rows import DEFAULT_MEMORY, Request, no_progress
from hvp_patching.paths.run import BaseRun
from hvp_patching.paths.taylor import UnsupportedOperation
from hvp_patching.paths.taylor.passes import rows_per_pass, taylor_jets
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import (
    get_site,
    layer_sizes,
    resolve_components,
    run_model,
)

# What the engine computes per component: f(1), since f(0) comes with the base run, and the
# derivatives that estimators ask for.
DERIVATIVES = ((0.0, 1), (0.0, 2), (0.0, 3), (0.5, 1), (0.5, 2))
REQUESTS: dict[str, Request] = {
    PATCHING: {1.0: 0},
    **{derivative(node, order): {node: order} for node, order in DERIVATIVES},
}


Item = TypeVar("Item")


@dataclass(frozen=True)
class Operation:
    """Something to time: what it is, how many rows one call serves, the call."""

    name: str
    rows: int
    call: Callable[[], Any]


def measure_costs(
    measurement: Measurement, repeats: int = 3, baselines: Iterable[str] = ()
) -> pd.DataFrame:
    """operation_seconds of the first prompt; a check computes a few of the timed derivatives."""
    m, subject = measurement, next(measurement.each())
    setting = (m.site, m.direction, m.backend, m.memory)
    costs = operation_seconds(
        *(m.model, subject.tokens, m.site, repeats, m.direction, m.backend, m.memory),
        baselines=baselines,
    )
    if m.check.on:
        m.check.note("seconds are not measured twice; a few of the timed derivatives are")
        check_jets(m.check, subject, timed_jets(m.model, subject.tokens, *setting))
    m.advance(1.0)
    return costs


@isolated()
def operation_seconds(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    repeats: int = 3,
    direction: str = "noising",
    backend: str = "auto",
    memory: int = DEFAULT_MEMORY,
    counts: Sequence[int] = COUNTS,
    baselines: Iterable[str] = (),
) -> pd.DataFrame:
    """Seconds of the operations behind every estimator, on one prompt and in one run.

    Returns one row per operation and size: operation; rows (components that a call serves,
    ``counts`` of them and all; the batch of a forward pass; 1 for the base run); seconds (median
    of ``repeats`` calls after a warm-up); seconds_per_component; forward_equivalents (those in
    forward passes of the whole prompt alone); device; threads. Operations: forward (plain, the
    last position's logits; alone, and in as many rows as the engine takes), base_run (both
    prompts and the prefix, which every method needs once), patching (f(1)), order_k_at_zero and
    order_k (f' to f^(k) at t = 0, where components share the unpatched run, and at another t),
    reverse_pass (AP of all components) and the named baselines; these two include their base run,
    the others do not. ValueError for repeats < 1, an unknown baseline or backend, or as in
    path_jets.
    """
    names = list(baselines)
    _check(repeats, backend, names)
    tokens = as_token_pair(model, pair)
    run = base_run(model, tokens, get_site(site), direction)
    components = requested_patches(run, None)
    setting = (model, tokens, site, direction)
    whole = {REVERSE: site_attribution} | {name: BASELINES[name] for name in names}
    operations = [
        *_forward_operations(model, tokens, run, len(components), memory),
        Operation(BASE_RUN, 1, partial(base_run, model, tokens, get_site(site), direction)),
        *(Operation(name, len(components), partial(f, *setting)) for name, f in whole.items()),
        *_engine_operations(run, components, backend, memory, counts),
    ]
    device, seconds = run.suffix.device, []
    with shared_base_runs(share=False):
        for i, operation in enumerate(operations):
            if i == 0 or operations[i - 1].name != operation.name:
                operation.call()  # warm up, in the smallest size
            seconds.append(_median_seconds(operation.call, repeats, device))
    return _table(operations, seconds, device)


def timed_jets(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    backend: str = "auto",
    memory: int = DEFAULT_MEMORY,
    count: int = 2,
) -> Jets:
    """What the timed operations compute, for `count` of the components. Errors as in path_jets."""
    request: dict[float, int] = {}
    for node, order in (item for timed in REQUESTS.values() for item in timed.items()):
        request[node] = max(order, request.get(node, 0))
    where = get_site(site)
    chosen = spread(resolve_components(where, layer_sizes(model, where), None), count)
    return path_jets(model, pair, site, request, 0, backend, chosen, direction, memory)


def spread(components: Sequence[Item], n: int) -> list[Item]:
    """`n` of the components at even distances, so that every depth has its share."""
    return [components[(2 * i + 1) * len(components) // (2 * n)] for i in range(n)]


def _check(repeats: int, backend: str, baselines: Sequence[str]) -> None:
    if repeats < 1:
        raise ValueError(f"{repeats} repeats cannot be timed; ask for at least 1")
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown backend '{backend}'; choose auto, {', '.join(BACKENDS)}")
    for name in baselines:
        if name not in BASELINES:
            raise ValueError(f"unknown baseline '{name}'; known: {', '.join(BASELINES)}")


def _forward_operations(
    model: Any, tokens: TokenPair, run: BaseRun, n_components: int, memory: int
) -> list[Operation]:
    """A plain forward pass alone, and with the rows of a pass of the engine's."""
    ids = torch.tensor([tokens.clean_ids], device=run.suffix.device)
    # the engine's rows are suffixes: as many whole prompts take more memory
    fitting = rows_per_pass(run, 0, memory) * run.suffix.shape[1] // ids.shape[1]
    batches = sorted({1, max(1, min(n_components, fitting))})
    return [Operation(FORWARD, n, partial(_forward, model, ids.expand(n, -1))) for n in batches]


def _forward(model: Any, ids: torch.Tensor) -> None:
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        run_model(model, ids, use_cache=False)


def _engine_operations(
    run: BaseRun,
    components: Sequence[Patch],
    backend: str,
    memory: int,
    counts: Sequence[int],
) -> list[Operation]:
    jets = _jets(run, components[0], backend)
    sizes = sorted({*(n for n in counts if n < len(components)), len(components)})
    return [
        Operation(name, n, partial(jets, run, spread(components, n), request, memory, no_progress))
        for name, request in REQUESTS.items()
        for n in sizes
    ]


def _jets(run: BaseRun, component: Patch, backend: str) -> Backend:
    """The backend that path_jets would end up with."""
    if backend != "auto":
        return BACKENDS[backend]
    try:
        taylor_jets(run, [component], {0.0: 1}, DEFAULT_MEMORY)
    except UnsupportedOperation:
        return autograd_jets
    return auto_jets


def _median_seconds(call: Callable[[], Any], repeats: int, device: torch.device) -> float:
    seconds = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _wait(device: torch.device) -> None:
    """Let a GPU finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _table(
    operations: Sequence[Operation], seconds: Sequence[float], device: torch.device
) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "operation": [operation.name for operation in operations],
            "rows": [operation.rows for operation in operations],
            "seconds": seconds,
        }
    )
    unit = table.query("operation == @FORWARD and rows == 1")["seconds"].item()
    table["seconds_per_component"] = table["seconds"] / table["rows"]
    table["forward_equivalents"] = table["seconds_per_component"] / unit
    return table.assign(device=device.type, threads=torch.get_num_threads())
