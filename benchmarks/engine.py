"""Speed and memory of the jet engine, as ratios within one run.

    python benchmarks/engine.py                                 # SmolLM2-135M: IOI, Greater-Than
    python benchmarks/engine.py --shape pythia-410m --device cuda   # random weights, true shape

On the same prompts: seconds and peak memory per row (one component at one node) for the paper's
way (one double backward per component through hooks), the batched double backward, Taylor mode,
TransformerLens' own activation patching and ours; the machine's float32 matmul rate and the
fraction of it reached over a whole row of Table 2; scaling over components, nodes and prompt
length. Prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from measure import count_flops, device_name, matmul_rate, measure
from reference import PerComponent, transformer_lens_patching
from shapes import SHAPES, random_model, random_pair

from hvp_patching.estimators import by_name, required_jets
from hvp_patching.models import load_model
from hvp_patching.paths import path_jets
from hvp_patching.prompts import TASKS, TokenPair, corrupt
from hvp_patching.sites import Component

TABLE2 = {0.0: 0, 1.0: 0} | required_jets(
    map(by_name, ("ap", "hvp", "ms_hvp_5", "ig_10", "ih_pi_5"))
)
FIVE_NODES = by_name("ms_hvp_5").request()  # K = 5: f, f', f'' at five nodes


def prompts_of(model: Any, task: str, n: int) -> list[TokenPair]:
    """The first `n` prompts of a task that fit the model, under the task's own corruption."""
    source = TASKS[task]
    pairs: list[TokenPair] = []
    for pair in source.candidates(0):
        try:
            settled, _ = source.settle(model, pair)
            pairs.append(corrupt(model, settled, source.default_corruption))
        except ValueError:
            continue
        if len(pairs) == n:
            break
    return pairs


def sample(components: list[Component], n: int) -> list[Component]:
    """`n` components spread evenly over the layers."""
    step = max(1, len(components) // n)
    return components[step // 2 :: step][:n]


def compare(model: Any, tokens: TokenPair, n_sampled: int, memory: int) -> dict[str, Any]:
    """All methods on one prompt; the slow ones on a sample of components."""
    device = next(model.parameters()).device
    heads = [(x, h) for x in range(model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    few = sample(heads, n_sampled)
    options = {"memory": memory}
    path_jets(model, tokens, nodes={0.5: 2}, components=few[:1])  # warm up
    methods: dict[str, Any] = {}

    def add(name: str, rows: int, function: Any) -> Any:
        cost = measure(function, device)
        methods[name] = {
            "rows": rows,
            "seconds": cost.seconds,
            "seconds_per_row": cost.seconds / rows,
            "peak_mib": cost.peak_mib,
        }
        print(f"  {name:<34} {cost.seconds:9.2f} s for {rows:5d} rows", flush=True)
        return cost.result

    per_component = PerComponent(model, tokens)
    reference = add(
        "double backward per component",
        len(few),
        lambda: [per_component(component, 0.4) for component in few],
    )
    add(
        "batched double backward",
        len(few),
        lambda: path_jets(model, tokens, nodes={0.4: 2}, backend="autograd", components=few),
    )
    jets = add(
        "Taylor mode, order 2, K = 5",
        len(heads) * len(FIVE_NODES),
        lambda: path_jets(model, tokens, nodes=FIVE_NODES, backend="taylor", **options),
    )
    lens = add(
        "transformer_lens.patching, exact",
        len(heads),
        lambda: transformer_lens_patching(model, tokens),
    )
    exact = add(
        "ours, exact (order 0)",
        len(heads),
        lambda: path_jets(model, tokens, nodes={1.0: 0}, backend="taylor", **options),
    )
    row = add(
        "a whole row of Table 2",
        len(heads) * len(TABLE2),
        lambda: path_jets(model, tokens, nodes=TABLE2, backend="taylor", **options),
    )
    del row
    flops = count_flops(lambda: path_jets(model, tokens, nodes=TABLE2, backend="taylor", **options))
    check = path_jets(model, tokens, nodes={0.4: 2}, backend="taylor", components=few).values[:, 0]
    paper = torch.tensor(reference, dtype=torch.float64)
    seconds = methods["a whole row of Table 2"]["seconds"]
    return {
        "prompt": tokens.prompt_id,
        "n_pos": len(tokens.clean_ids),
        "positions_changed": len(tokens.clean_ids) - tokens.first_changed,
        "n_components": len(heads),
        "methods": methods,
        "speedup_vs_per_component": methods["double backward per component"]["seconds_per_row"]
        / methods["Taylor mode, order 2, K = 5"]["seconds_per_row"],
        "exact_speedup_vs_transformer_lens": methods["transformer_lens.patching, exact"]["seconds"]
        / methods["ours, exact (order 0)"]["seconds"],
        "table2_flops": flops,
        "table2_flops_per_second": flops / seconds,
        "agreement": {
            "f1_vs_per_component": _difference(check[:, 1], paper[:, 0]),
            "f2_vs_per_component": _difference(check[:, 2], paper[:, 1]),
            "exact_vs_transformer_lens": _difference(
                exact.at(1.0, 0), lens.flatten().double().cpu()
            ),
        },
        "median_abs_f2": float(jets.at(0.4, 2).abs().median()),
    }


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def scaling(model: Any, memory: int) -> list[dict[str, Any]]:
    """Seconds per row of Taylor mode over components, nodes and prompt length (order 2)."""
    device = next(model.parameters()).device
    heads = [(x, h) for x in range(model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    cases = [("components", n, sample(heads, n), 2, 12) for n in (8, 32, 128) if n <= len(heads)]
    cases += [("nodes", n, sample(heads, 32), n, 12) for n in (1, 4, 8)]
    cases += [("positions", n, sample(heads, 32), 2, n) for n in (12, 24, 48)]
    out = []
    for axis, value, components, n_nodes, n_pos in cases:
        tokens = random_pair(model, n_pos, n_pos - 6 if axis != "positions" else 2)
        nodes = {(i + 0.5) / n_nodes: 2 for i in range(n_nodes)}
        cost = measure(
            lambda c=components, n=nodes, p=tokens: path_jets(
                model, p, nodes=n, backend="taylor", components=c, memory=memory
            ),
            device,
        )
        rows = len(components) * n_nodes
        out.append(
            {
                "axis": axis,
                "value": value,
                "rows": rows,
                "seconds_per_row": cost.seconds / rows,
                "peak_mib": cost.peak_mib,
            }
        )
    return out


def report(results: dict[str, Any]) -> None:
    """Print what a reader wants to know."""
    rate = results["matmul_flops_per_second"]
    print(f"\n{results['model']} on {results['device']}, float32 matmul {rate / 1e9:.0f} GFLOP/s")
    for case in results["prompts"]:
        table = pd.DataFrame(case["methods"]).T
        table["ms/row"] = 1e3 * table["seconds_per_row"]
        print(
            f"\n{case['prompt']}: {case['positions_changed']} of {case['n_pos']} positions change"
        )
        print(table[["rows", "seconds", "ms/row", "peak_mib"]].round(2).to_string())
        print(f"  {case['speedup_vs_per_component']:.1f} times the paper's way")
        print(f"  {case['exact_speedup_vs_transformer_lens']:.1f} times transformer_lens.patching")
        print(f"  {case['fraction_of_matmul_rate']:.2f} of the matmul rate over a row of Table 2")
        print(f"  agreement {case['agreement']}")
    print()
    print(pd.DataFrame(results["scaling"]).round(5).to_string(index=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a model of the registry")
    parser.add_argument("--shape", choices=SHAPES, help="random weights in this shape instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks", nargs="+", default=["ioi", "greater_than"])
    parser.add_argument("--prompts", type=int, default=1, help="prompts per task")
    parser.add_argument("--sampled", type=int, default=10, help="components for slow methods")
    parser.add_argument("--memory-gb", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine.json"))
    arguments = parser.parse_args()
    device, memory = torch.device(arguments.device), int(arguments.memory_gb * 2**30)
    started = time.time()
    if arguments.shape:
        model = random_model(arguments.shape, device)
        pairs = [
            random_pair(model, 15, 10),
            random_pair(model, 16, 3),
        ]  # IOI-like and Greater-Than-like
    else:
        model = load_model(arguments.model, device=str(device))
        pairs = [p for t in arguments.tasks for p in prompts_of(model, t, arguments.prompts)]
    rate = matmul_rate(device)
    cases = [compare(model, tokens, arguments.sampled, memory) for tokens in pairs]
    rate = max(rate, matmul_rate(device))
    for case in cases:
        case["fraction_of_matmul_rate"] = case["table2_flops_per_second"] / rate
    results = {
        "model": arguments.shape or arguments.model,
        "weights": "random" if arguments.shape else "pretrained",
        "device": device_name(device),
        "torch": torch.__version__,
        "matmul_flops_per_second": rate,
        "prompts": cases,
        "scaling": scaling(model, memory),
        "speedup_vs_per_component": statistics.geometric_mean(
            case["speedup_vs_per_component"] for case in cases
        ),
        "seconds_total": time.time() - started,
    }
    report(results)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
