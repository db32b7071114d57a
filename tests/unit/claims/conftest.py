"""The ledger on made-up results: every file that the embedded profile would give it."""

from __future__ import annotations

import functools
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "workflow"))

from claims_inputs import evidence_files  # noqa: E402

from hvp_patching.claims.evidence import Evidence, Source  # noqa: E402
from hvp_patching.claims.reading import Claim, Query, read_claims, read_queries  # noqa: E402
from hvp_patching.metrics import circuits  # noqa: E402
from hvp_patching.settings import Setting  # noqa: E402

N = 12  # prompts
ERRORS = {
    **{"ap": 0.2, "hvp": 0.1, "ms_hvp_2": 0.06, "ms_hvp_3": 0.04, "ms_hvp_5": 0.02},
    **{"ms_hvp_10": 0.012, "ms_hvp_20": 0.008, "ms_hvp_40": 0.006, "ig_10": 0.021, "ig_35": 0.03},
    **{"ig_40": 0.029, "k_median": 0.011, "ih_pi_5": 0.15, "ih_dr_3": 0.14, "ih_dr_5": 0.13},
    **{"gim": 0.3, "atp_star": 0.19, "third_order": 0.15, "fd_hvp": 0.1, "gauss_newton": 0.12},
    **{"local_curvature": 0.05, "local_curvature_unweighted": 2.0},
}
PROMPTS = [f"p{i}" for i in range(N)]
HEADS = [(layer, index) for layer in range(6) for index in range(4)]


def _by_method(column: str, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"prompt_id": prompt, "estimator": name, column: error * rng.uniform(0.8, 1.2)}
            for prompt in PROMPTS
            for name, error in ERRORS.items()
        ]
    )


def _overlap(rng: np.random.Generator) -> pd.DataFrame:
    table = _by_method("overlap", rng)
    table["overlap"] = 1 - table["overlap"]
    return pd.concat([table.assign(k=k) for k in (5, 10, 20)])


def _scores(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for prompt in PROMPTS:
        for layer, index in HEADS:
            truth = rng.normal()
            rows += [
                {
                    **{"prompt_id": prompt, "layer": layer, "index": index, "truth": truth},
                    "estimator": name,
                    "estimate": truth * (1 + error * rng.normal()),
                }
                for name, error in ERRORS.items()
            ]
    return pd.DataFrame(rows)


def _components(rng: np.random.Generator) -> pd.DataFrame:
    table = pd.DataFrame(
        [(prompt, *head) for prompt in PROMPTS for head in HEADS],
        columns=["prompt_id", "layer", "index"],
    )
    n = len(table)
    rho = 10 ** rng.uniform(-3, 1, n)
    truth = rng.normal(size=n)
    ap_error = rho * rng.uniform(0.8, 1.2, n)
    return table.assign(
        **{"truth": truth, "rho": rho, "ap_error": ap_error, "hvp_error": ap_error / 5},
        **{"ap": truth * (1 - ap_error), "hvp": truth, "flagged": rho > 0.5},
        **{"ap_miss": ap_error, "hvp_miss": ap_error / 5},
    )


def _probes(rng: np.random.Generator) -> pd.DataFrame:
    table = _components(rng)
    norm = rng.uniform(1, 2, len(table))
    return table[["prompt_id", "layer", "index", "ap"]].assign(
        effect=table["truth"],
        q=2 * (table["truth"] - table["ap"]) + 0.01,
        delta_norm=norm,
        lipschitz=rng.uniform(0.05, 0.2, len(table)) / norm**3,
    )


def _layers() -> pd.DataFrame:
    layer = np.arange(6)
    fall = 10.0**-layer
    return pd.DataFrame(
        {"layer": layer, "rho_median": 1 + layer, "ap_error": 0.1 + layer, "n": 10}
        | {"hvp_error": 0.01 + layer / 5, "lipschitz_median": fall, "lipschitz_max": 500 * fall}
        | {"delta_norm_median": 1.0, "bound_holds_rate": 0.9}
    )


def _circuits(result: str, rng: np.random.Generator) -> pd.DataFrame:
    """Of circuits that recover more with every level, as the workflow's own analyses see them."""
    levels = pd.DataFrame({"level": [0.01, 0.05, 0.5, 1.0], "n_edges": [1, 5, 50, 100]})
    ends = {"selection": "signed", "m_clean": 3.0, "m_corrupted": 0.0}
    methods = ("eap", "eap_ig_inputs_5", "hvp_input", "hvp_joint", "ms_hvp_input_5")
    values = pd.concat(
        levels.assign(prompt_id=prompt, method=name, n_kept=levels["n_edges"], **ends).assign(
            m=3 * levels["level"] ** rng.uniform(0.1, 0.5)
        )
        for prompt in PROMPTS
        for name in (*methods, "ms_hvp_joint_5")
    )
    if result == "circuit_curve":
        return circuits.circuit_curve(values)
    return getattr(circuits, result)(values, n_resamples=50)


def made_up(result: str, seed: int) -> pd.DataFrame:
    """A frame with the columns that queries ask of a result."""
    rng = np.random.default_rng(seed)
    if result in ("top_errors", "sweep_errors", "hessian_errors"):
        return _by_method("top_k_relative_error", rng)
    if result == "errors":
        return _by_method("median_relative_error", rng)
    if result in ("overlap", "ranking_overlap"):
        return _overlap(rng)
    if result == "scores":
        return _scores(rng)
    if result in ("reliability", "flagged"):
        return _components(rng)
    if result == "probes":
        return _probes(rng)
    if result.startswith("circuit_"):
        return _circuits(result, rng)
    if result in ("layers", "lipschitz_layers"):
        return _layers()
    steps = np.array([1, 2, 4, 8, 16, 32, 64])
    few = {
        "convergence": {"dtype": "float64", "family": "ms_hvp", "steps": steps}
        | {"error": 1.0 / steps**2, "estimate_rounding": 1e-15},
        "auroc": {"quantity": "delta_norm", "quartile": ["Q1", "Q2", "Q3", "Q4", "all"]}
        | {"auroc": 0.97, "ci_low": 0.9 + 0.01 * (seed % 5), "ci_high": 0.99},
        "operating": {"tau": [0.1, 0.5], "flagged_share": [0.5, 0.2], "reduction": [0.6, 0.4]},
        "selection": {"share": np.linspace(0, 1, 11), "by_rho": np.linspace(0, 1, 11) ** 0.3}
        | {"random_high": np.linspace(0.05, 1, 11)},
        "recovery": {"estimator": ["ap", "hvp"] * 2, "k": [10, 10, 20, 20]}
        | {"overlap": [0.8, 0.8, 0.9, 0.95]},
        "ranking": {"estimator": ["ap", "hvp", "ms_hvp_5"], "kendall_tau": [0.5, 0.505, 0.51]}
        | {f"ndcg_at_{k}": [1.0, 0.9, 1.0] for k in (5, 20)}
        | {"n_prompts": N},
        "case_study": {"layer": [1, 2], "index": 0, "misranked": [True, False]}
        | {"rank_truth": [7, 1], "rank_ap": [27, 1], "rank_hvp": [9, 1], "rho": [2.0, 0.1]}
        | {"truth": 1.0, "ap": 0.2, "n_prompts": N},
        "absolute_errors": {"estimator": ["ap", "hvp"], "reduction": [np.nan, 0.5]}
        | {"reduction_low": [np.nan, 0.4], "reduction_high": [np.nan, 0.6], "n_prompts": N},
        "prefix": {"n_prompts": np.arange(1, 47), "reduction": 0.7},
        "edge_costs": {"method": ["eap", "hvp_input", "hvp_joint", "hvp_joint_flagged"]}
        | {"overhead": [1.0, 1.3, 1.4, 2.0], "n_prompts": 100},
        "feature_errors": {"layer": [12, 12, 22, 22], "estimator": ["ap", "hvp"] * 2}
        | {"mae": [1.0, 0.2, 2.0, 0.3], "correlation": [0.98, 0.9995, 0.97, 0.9999]}
        | {"reduction": [np.nan, 0.8, np.nan, 0.85], "reduction_low": [np.nan, 0.7] * 2}
        | {"reduction_high": [np.nan, 0.9] * 2, "n_prompts": N},
        "frontier": {"estimator": ["ap", "hvp", "ms_hvp_5", "ig_10"], "n_components": 24}
        | {"seconds": [1.0, 2.9, 10.0, 5.0]},
    }
    return pd.DataFrame(few[result])


@functools.cache
def configuration() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()))


def quick() -> dict[str, Any]:
    """The configuration with fewer bootstrap resamples."""
    config = configuration()
    return config | {"metrics": config["metrics"] | {"bootstrap_resamples": 50}}


@pytest.fixture(scope="session")
def queries() -> dict[str, Query]:
    return read_queries(ROOT / "data/claims/queries.yaml")


@pytest.fixture(scope="session")
def claims() -> dict[str, Claim]:
    rows = read_claims(ROOT / "data/published/claims.csv", ROOT / "data/claims/scope.csv")
    return {claim.claim_id: claim for claim in rows}


@pytest.fixture(scope="session")
def files(
    queries: dict[str, Query], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Source]]:
    """Made-up results of every query, by its name."""
    folder = tmp_path_factory.mktemp("results")
    sources: dict[str, list[Source]] = {}
    for one in evidence_files(configuration()):
        path = folder / one["path"]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = zlib.crc32(one["path"].encode())
            made_up(queries[one["query"]].result, seed).to_parquet(path)
        setting = Setting.parse(one["setting"])
        sources.setdefault(one["query"], []).append(
            Source(one["key"], setting, one["site"], str(path), N)
        )
    return sources


@pytest.fixture(scope="session")
def evidence(files: dict[str, list[Source]]) -> Evidence:
    return Evidence(files, quick(), ROOT)


@pytest.fixture
def of_frame() -> Callable[..., Evidence]:
    """Evidence of one query and one frame per setting."""

    def make(query: Query, frames: dict[str, pd.DataFrame], folder: Path) -> Evidence:
        sources = []
        for name, frame in frames.items():
            path = folder / f"{query.name}_{name.replace('/', '_')}.parquet"
            frame.to_parquet(path)
            sources.append(Source("table2", Setting.parse(name), "attn_heads", str(path), N))
        return Evidence({query.name: sources}, quick(), ROOT)

    return make
