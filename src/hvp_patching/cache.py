"""Per-prompt results through the store: nothing that is there is ever computed again.

One entry holds the derivatives of all requested components at one node, one baseline's estimates,
or one prompt's probes. Its key is everything the numbers depend on; `store` has the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import pandas as pd
import torch

from hvp_patching.baselines import BASELINES, BASELINES_VERSION
from hvp_patching.models.environment import current_environment
from hvp_patching.models.identity import current_identity
from hvp_patching.paths.jets import ENGINE_VERSION, Jets, normalise_request, path_jets
from hvp_patching.paths.metric import LOGPROB, AnyMetric, as_metric
from hvp_patching.paths.patches import Positions
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, Request, no_progress
from hvp_patching.paths.taylor import MAX_ORDER
from hvp_patching.paths.vector_hvp import (
    PROBE_COLUMNS,
    PROBES_VERSION,
    hessian_vector_products,
    lipschitz_estimates,
)
from hvp_patching.prompts.pair import TokenPair, as_token_pair
from hvp_patching.sites import Component
from hvp_patching.store import Entry, Store

__all__ = [
    "BaselineKey",
    "JetKey",
    "ProbeKey",
    "PromptKey",
    "Store",
    "assemble",
    "prompt_fields",
    "remember",
    "stored_baseline",
    "stored_jets",
    "stored_probes",
    "weights_identity",
]

Name = TypeVar("Name", str, float)
UNDEFINED = ["lipschitz", "lipschitz_scalar"]  # where a component does not move


@dataclass(frozen=True)
class PromptKey:
    """What every stored result of one prompt depends on."""

    weights: str
    clean_ids: tuple[int, ...]
    corrupted_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    corruption: str
    site: str
    dtype: str
    direction: str
    metric: str
    foil_ids: tuple[int, ...]

    def digest(self) -> str:
        """Name of the entry: sha256 of the key, in hexadecimal."""
        text = json.dumps(self.fields(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def fields(self) -> dict[str, Any]:
        """The key as JSON values."""
        return asdict(self)

    def serving(self) -> Iterator[PromptKey]:
        """The keys whose entries hold what is asked for."""
        yield self


@dataclass(frozen=True)
class JetKey(PromptKey):
    """Everything that the derivatives at one node depend on."""

    components: tuple[Component, ...] | None
    node: float
    order: int
    backend: str
    positions: str | tuple[int, ...] | None = None
    engine: int = ENGINE_VERSION

    def fields(self) -> dict[str, Any]:
        """The key as JSON values; nodes that differ by rounding alone are the same node."""
        return asdict(self) | {"node": f"{self.node:.12f}"}

    def serving(self) -> Iterator[PromptKey]:
        """An entry of a higher order serves a request for a lower one."""
        for order in range(self.order, MAX_ORDER + 1):
            yield replace(self, order=order)


@dataclass(frozen=True)
class BaselineKey(PromptKey):
    """Everything that a baseline's estimates depend on."""

    baseline: str
    version: int = BASELINES_VERSION


@dataclass(frozen=True)
class ProbeKey(PromptKey):
    """Everything that the probes of the Hessian along the paths depend on."""

    nodes: tuple[str, ...]
    version: int = PROBES_VERSION


def weights_identity(model: Any) -> str:
    """What names the model's weights in every key, as they are now: edits in place are seen."""
    return current_identity(model)


def prompt_fields(
    model: Any, tokens: TokenPair, site: str, direction: str, metric: AnyMetric = LOGPROB
) -> dict[str, Any]:
    """The fields of a PromptKey; the model is one from load_model or from_huggingface.

    ValueError for a metric without a name: nothing else tells its results from another's.
    """
    readout = as_metric(metric).readout(model, tokens)
    if readout.identity is None:
        raise ValueError(
            f"metric '{readout.name}' has no name under which results can be stored; give "
            "Metric(function, name=…, version=…)"
        )
    return {
        "weights": weights_identity(model),
        "clean_ids": tokens.clean_ids,
        "corrupted_ids": tokens.corrupted_ids,
        "target_ids": tokens.target_ids,
        "corruption": tokens.corruption,
        "site": site,
        "dtype": str(model.cfg.dtype),
        "direction": direction,
        "metric": readout.identity,
        "foil_ids": readout.foil_ids,
    }


def remember(
    store: Store,
    keys: Mapping[Name, PromptKey],
    model: Any,
    compute: Callable[[Sequence[Name]], Mapping[Name, Entry]],
) -> tuple[dict[Name, Entry], int]:
    """The entries of all keys, and how many `model` had to compute, in one go, and store."""
    stored = ((name, map(store.get, key.serving())) for name, key in keys.items())
    found = {name: next(filter(None, entries), None) for name, entries in stored}
    missing = [name for name, entry in found.items() if entry is None]
    computed = compute(missing) if missing else {}
    for name, entry in computed.items():
        store.put(keys[name], entry, current_environment(model))
    return {name: entry or computed[name] for name, entry in found.items()}, len(missing)


def _remember_one(store: Store, key: PromptKey, model: Any, compute: Callable[[], Entry]) -> Entry:
    found, _ = remember(store, {"": key}, model, lambda names: {"": compute()})
    return found[""]


def stored_jets(
    store: Store,
    model: Any,
    tokens: TokenPair,
    site: str,
    nodes: Request,
    backend: str = "auto",
    components: tuple[Component, ...] | None = None,
    direction: str = "noising",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> tuple[Jets, int]:
    """path_jets through the store: the jets, and how many of the nodes had to be computed.

    Needs a model from load_model or from_huggingface, which name their weights. Errors as in
    path_jets.
    """
    request = normalise_request(nodes, 0)
    tokens = as_token_pair(model, tokens)
    if positions is not None and not isinstance(positions, str):
        positions = tuple(positions)
    key = JetKey(
        **prompt_fields(model, tokens, site, direction, metric),
        components=components,
        node=0.0,
        order=0,
        backend=backend,
        positions=positions,
    )
    keys = {node: replace(key, node=node, order=order) for node, order in request.items()}

    def compute(missing: Sequence[float]) -> dict[float, Entry]:
        wanted = {node: request[node] for node in missing}
        jets = path_jets(
            *(model, tokens, site, wanted, 0, backend, components, direction, memory, progress),
            positions=positions,
            metric=metric,
        )
        places = torch.tensor(jets.components.to_numpy())
        return {
            node: {"values": jets.values[:, i, : order + 1], "components": places}
            for i, (node, order) in enumerate(wanted.items())
        }

    entries, computed = remember(store, keys, model, compute)
    return assemble(entries, request), computed


def assemble(entries: dict[float, Entry], request: Request) -> Jets:
    """One Jets from the entries of its nodes, NaN where the request asks for less."""
    components = next(iter(entries.values()))["components"]
    width = max(request.values()) + 1
    values = torch.full((len(components), len(request), width), torch.nan, dtype=torch.float64)
    for i, (node, order) in enumerate(request.items()):
        values[:, i, : order + 1] = entries[node]["values"][:, : order + 1]
    columns = ["layer", "index", "position"][: components.shape[1]]
    frame = pd.DataFrame(components.numpy(), columns=columns)
    return Jets(values, tuple(request), frame)


def stored_probes(
    store: Store,
    model: Any,
    tokens: TokenPair,
    site: str = "attn_heads",
    nodes: tuple[float, ...] = (0.0, 0.5, 1.0),
    direction: str = "noising",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
    *,
    metric: AnyMetric = LOGPROB,
) -> pd.DataFrame:
    """Lipschitz estimates of every component through the store (appendix B.2).

    Returns the columns of lipschitz_estimates. Needs a model from load_model. Errors as in
    hessian_vector_products.
    """
    tokens = as_token_pair(model, tokens)
    key = ProbeKey(
        **prompt_fields(model, tokens, site, direction, metric),
        nodes=tuple(f"{node:.12f}" for node in nodes),
    )

    def compute() -> Entry:
        products = hessian_vector_products(
            *(model, tokens, site, nodes),
            direction=direction,
            memory=memory,
            progress=progress,
            metric=metric,
        )
        frame = lipschitz_estimates(products)
        still = frame["delta_norm"] == 0  # NaN by definition, and the store takes no NaN
        frame.loc[still, UNDEFINED] = frame.loc[still, UNDEFINED].fillna(0.0)
        return {str(name): torch.tensor(column.to_numpy()) for name, column in frame.items()}

    entry = _remember_one(store, key, model, compute)
    frame = pd.DataFrame({name: entry[name].numpy() for name in PROBE_COLUMNS})
    frame.loc[frame["delta_norm"] == 0, UNDEFINED] = float("nan")
    return frame


def stored_baseline(
    store: Store,
    model: Any,
    tokens: TokenPair,
    name: str,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """A baseline's estimates through the store, float64 [n_components], in the metric's units.

    Needs a model from load_model. ValueError for an unknown baseline, else as the baseline does.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline '{name}'; known: {', '.join(BASELINES)}")
    tokens = as_token_pair(model, tokens)
    key = BaselineKey(**prompt_fields(model, tokens, site, direction, metric), baseline=name)

    def compute() -> Entry:
        return {"estimates": BASELINES[name](model, tokens, site, direction, metric=metric)}

    return _remember_one(store, key, model, compute)["estimates"]
