"""What q of all heads at t = 0 costs beside patching all heads, as ratios within one run.

    python benchmarks/curvature.py                       # SmolLM2-135M, IOI, two threads
    python benchmarks/curvature.py --model gemma-3-270m --tasks greater_than --repeats 10

q by tangents and by Taylor mode of order 2, and exact patching (order 0 at node 1), in turn, so
that whatever else the machine does meets all of them alike. `engine`: rows alone; `call`: with the
runs of both prompts and their proofs, as a caller of path_jets waits. Prints medians of seconds, of
processor seconds, of their ratios to exact patching, and peak memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from engine import prompts_of
from measure import device_name, measure

from hvp_patching.models import load_model
from hvp_patching.paths import path_jets
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.jets import BACKENDS
from hvp_patching.paths.patches import requested_patches
from hvp_patching.prompts import TokenPair
from hvp_patching.sites import get_site

EXACT = "exact patching"
METHODS: dict[str, tuple[str, dict[float, int]]] = {
    EXACT: ("taylor", {1.0: 0}),
    "q by tangents": ("tangent", {0.0: 2}),
    "q by Taylor mode": ("taylor", {0.0: 2}),
}


def calls(model: Any, tokens: TokenPair, memory: int) -> dict[tuple[str, str], Callable[[], Any]]:
    """Every method, by its rows alone and as a whole call."""
    run = base_run(model, tokens, get_site("attn_heads"))
    patches = requested_patches(run, None)
    found: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, (backend, request) in METHODS.items():
        found["engine", name] = partial(BACKENDS[backend], run, patches, request, memory)
        options = {"nodes": request, "backend": backend, "memory": memory}
        found["call", name] = partial(path_jets, model, tokens, **options)
    return found


def compare(model: Any, tokens: TokenPair, repeats: int, memory: int) -> pd.DataFrame:
    """Medians over `repeats` rounds after a warm-up, one row per method and way of calling it."""
    timed = calls(model, tokens, memory)
    wall: dict[Any, list[float]] = {key: [] for key in timed}
    processor: dict[Any, list[float]] = {key: [] for key in timed}
    peaks = {}
    for key, call in timed.items():
        peaks[key] = measure(call, next(model.parameters()).device).peak_mib
    for _ in range(repeats):
        for key, call in timed.items():
            start, used = time.perf_counter(), time.process_time()
            call()
            processor[key].append(time.process_time() - used)
            wall[key].append(time.perf_counter() - start)
    rows = []
    for key in timed:
        exact = key[0], EXACT
        rows.append(
            {
                "of": key[0],
                "method": key[1],
                "seconds": statistics.median(wall[key]),
                "ratio": _ratio(wall[key], wall[exact]),
                "processor_seconds": statistics.median(processor[key]),
                "processor_ratio": _ratio(processor[key], processor[exact]),
                "peak_mib": peaks[key],
            }
        )
    return pd.DataFrame(rows)


def _ratio(ours: list[float], exact: list[float]) -> float:
    """Median of the ratios of calls that stand beside each other."""
    return statistics.median(a / b for a, b in zip(ours, exact, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a model of the registry")
    parser.add_argument("--folder", type=Path, help="its weights, if not in data/models")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks", nargs="+", default=["ioi"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-gb", type=float, default=2.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.model, device=arguments.device, folder=arguments.folder)
    print(f"{arguments.model} on {device_name(torch.device(arguments.device))}")
    for task in arguments.tasks:
        tokens = prompts_of(model, task, 1)[0]
        changed = len(tokens.clean_ids) - tokens.first_changed
        print(f"\n{tokens.prompt_id}: {changed} of {len(tokens.clean_ids)} positions change")
        table = compare(model, tokens, arguments.repeats, int(arguments.memory_gb * 2**30))
        print(table.round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
