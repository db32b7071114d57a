"""Content-addressed store of per-prompt results: nothing that is there is ever computed again.

One entry holds the derivatives of all requested components at one node, or one baseline's
estimates. Its name is the sha256 of everything the numbers depend on; its first 32 bytes are the
sha256 of the rest, a safetensors payload, so a truncated or altered entry is noticed, reported and
recomputed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load, save

from hvp_patching.baselines import BASELINES, BASELINES_VERSION
from hvp_patching.paths.jets import ENGINE_VERSION, Jets, normalise_request, path_jets
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

log = logging.getLogger(__name__)

DIGEST_BYTES = 32
# jets: values [n_components, order + 1], components [n_components, 2]; baselines: estimates
Entry = dict[str, torch.Tensor]


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

    def digest(self) -> str:
        """Name of the entry: sha256 of the key, in hexadecimal."""
        text = json.dumps(self.fields(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def fields(self) -> dict[str, Any]:
        """The key as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class JetKey(PromptKey):
    """Everything that the derivatives at one node depend on."""

    components: tuple[Component, ...] | None
    node: float
    order: int
    backend: str
    engine: int = ENGINE_VERSION

    def fields(self) -> dict[str, Any]:
        """The key as JSON values; nodes that differ by rounding alone are the same node."""
        return asdict(self) | {"node": f"{self.node:.12f}"}


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


def prompt_fields(model: Any, tokens: TokenPair, site: str, direction: str) -> dict[str, Any]:
    """The fields of a PromptKey; the model is one from load_model: it names its weights."""
    return {
        "weights": model.hvp_identity,
        "clean_ids": tokens.clean_ids,
        "corrupted_ids": tokens.corrupted_ids,
        "target_ids": tokens.target_ids,
        "corruption": tokens.corruption,
        "site": site,
        "dtype": str(model.cfg.dtype),
        "direction": direction,
    }


class Store:
    """Entries below `root`, one file per key: named tensors of one prompt."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, key: PromptKey) -> Path:
        """Where the entry of `key` lies, whether or not it is there."""
        digest = key.digest()
        return self.root / digest[:2] / digest[2:]

    def get(self, key: PromptKey) -> Entry | None:
        """The stored tensors, or None; a damaged entry is reported, removed and then absent."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            log.warning("store entry %s is damaged (checksum differs); computing it again", path)
            path.unlink(missing_ok=True)
            return None
        return load(payload)

    def put(self, key: PromptKey, entry: Entry) -> None:
        """Write the entry atomically: a failed write leaves nothing, a killed one no entry."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        payload = save({name: tensor.contiguous() for name, tensor in entry.items()})
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


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
) -> tuple[Jets, int]:
    """path_jets through the store: the jets, and how many of the nodes had to be computed.

    An entry of a higher order serves a request for a lower one. Needs a model from load_model
    (its `hvp_identity` names the weights). Errors as in path_jets.
    """
    request = normalise_request(nodes, 0)
    tokens = as_token_pair(model, tokens)
    key = JetKey(
        **prompt_fields(model, tokens, site, direction),
        components=components,
        node=0.0,
        order=0,
        backend=backend,
    )
    found = {
        node: _lookup(store, replace(key, node=node), order) for node, order in request.items()
    }
    missing = {node: request[node] for node, entry in found.items() if entry is None}
    if missing:
        jets = path_jets(
            model, tokens, site, missing, 0, backend, components, direction, memory, progress
        )
        for i, (node, order) in enumerate(missing.items()):
            entry = {
                "values": jets.values[:, i, : order + 1],
                "components": torch.tensor(jets.components.to_numpy()),
            }
            found[node] = entry
            store.put(replace(key, node=node, order=order), entry)
    return _assemble({node: entry for node, entry in found.items() if entry}, request), len(missing)


def _lookup(store: Store, key: JetKey, order: int) -> Entry | None:
    """The stored entry at the key's node with at least `order` derivatives."""
    for available in range(order, MAX_ORDER + 1):
        entry = store.get(replace(key, order=available))
        if entry is not None:
            return entry
    return None


def _assemble(entries: dict[float, Entry], request: Request) -> Jets:
    """One Jets from the entries of its nodes, NaN where the request asks for less."""
    components = next(iter(entries.values()))["components"]
    width = max(request.values()) + 1
    values = torch.full((len(components), len(request), width), torch.nan, dtype=torch.float64)
    for i, (node, order) in enumerate(request.items()):
        values[:, i, : order + 1] = entries[node]["values"][:, : order + 1]
    frame = pd.DataFrame(components.numpy(), columns=["layer", "index"])
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
) -> pd.DataFrame:
    """Lipschitz estimates of every component through the store (appendix B.2).

    Returns the columns of lipschitz_estimates. Needs a model from load_model. Errors as in
    hessian_vector_products.
    """
    tokens = as_token_pair(model, tokens)
    key = ProbeKey(
        **prompt_fields(model, tokens, site, direction),
        nodes=tuple(f"{node:.12f}" for node in nodes),
    )
    entry = store.get(key)
    if entry is None:
        products = hessian_vector_products(
            model, tokens, site, nodes, direction=direction, memory=memory, progress=progress
        )
        frame = lipschitz_estimates(products)
        entry = {str(name): torch.tensor(column.to_numpy()) for name, column in frame.items()}
        store.put(key, entry)
    return pd.DataFrame({name: entry[name].numpy() for name in PROBE_COLUMNS})


def stored_baseline(
    store: Store,
    model: Any,
    tokens: TokenPair,
    name: str,
    site: str = "attn_heads",
    direction: str = "noising",
) -> torch.Tensor:
    """A baseline's estimates through the store, float64 [n_components], in nats.

    Needs a model from load_model. ValueError for an unknown baseline, else as the baseline does.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline '{name}'; known: {', '.join(BASELINES)}")
    tokens = as_token_pair(model, tokens)
    key = BaselineKey(**prompt_fields(model, tokens, site, direction), baseline=name)
    entry = store.get(key)
    if entry is None:
        entry = {"estimates": BASELINES[name](model, tokens, site, direction)}
        store.put(key, entry)
    return entry["estimates"]
