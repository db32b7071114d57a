"""Jets of features through the store: no prompt is computed twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hvp_patching.cache import JetKey, Store, assemble, prompt_fields, remember
from hvp_patching.features.autoencoder import SparseAutoencoder
from hvp_patching.features.patching import feature_moves, jets_of_moves, no_jets
from hvp_patching.paths.jets import Jets, normalise_request
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, Request, no_progress
from hvp_patching.prompts.pair import TokenPair, as_token_pair
from hvp_patching.store import Entry

FEATURES_VERSION = 1  # raise it when the codes' change is computed in another way


@dataclass(frozen=True)
class FeatureKey(JetKey):
    """Everything that the derivatives of all moving features at one node depend on."""

    autoencoder: str = ""
    version: int = FEATURES_VERSION


def stored_feature_jets(
    store: Store,
    model: Any,
    tokens: TokenPair,
    autoencoder: SparseAutoencoder,
    nodes: Request,
    backend: str = "auto",
    direction: str = "noising",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
    *,
    metric: AnyMetric = LOGPROB,
) -> tuple[Jets, float, int]:
    """feature_jets of all features that move, the share of δ that none covers (Moves.uncovered).

    Third, how many of the nodes had to be computed. Errors as in feature_jets, but that a prompt
    where no feature moves has jets of none.
    """
    request = normalise_request(nodes, 0)
    tokens = as_token_pair(model, tokens)
    key = FeatureKey(
        **prompt_fields(model, tokens, autoencoder.kind.hook, direction, metric),
        components=None,
        node=0.0,
        order=0,
        backend=backend,
        autoencoder=autoencoder.identity,
    )
    keys = {node: replace(key, node=node, order=order) for node, order in request.items()}

    def compute(missing: Sequence[float]) -> Mapping[float, Entry]:
        wanted = {node: request[node] for node in missing}
        moves = feature_moves(model, tokens, autoencoder, direction, metric=metric)
        jets = no_jets(wanted)
        if moves.moving:
            jets = jets_of_moves(
                *(model, tokens, autoencoder, moves, wanted, 0, backend, None, direction, memory),
                progress=progress,
                metric=metric,
            )
        shared = {
            "components": torch.tensor(jets.components.to_numpy(), dtype=torch.int64),
            "uncovered": torch.tensor([moves.uncovered], dtype=torch.float64),
        }
        return {
            node: {"values": jets.values[:, i, : order + 1], **shared}
            for i, (node, order) in enumerate(wanted.items())
        }

    entries, computed = remember(store, keys, model, compute)
    uncovered = float(next(iter(entries.values()))["uncovered"])
    return assemble(entries, request), uncovered, computed
