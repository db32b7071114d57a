"""Features as patches: a feature's path moves the residual stream along its decoder row.

With codes f of the base run and f' of the other, x = Σ f_j · W_dec[j] + offset + e at every
position. Patching feature j replaces f_j by f'_j and keeps all else, the error term e of the base
run included, so its path is a + t · (f'_j − f_j) ⊗ W_dec[j]: a patch like any other, into which the
encoder does not enter (appendix E.9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from hvp_patching.features.autoencoder import SparseAutoencoder, check_fits
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.jets import Jets, path_jets
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Patch
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, no_progress
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import Hooks


@dataclass(frozen=True)
class Moves:
    """What the corruption does to the codes of one prompt.

    delta: f' − f, [n_pos, n_features] over the prompt, zero before the first changed token;
    uncovered: ‖δ − Σ_j δf_j W_dec[j]‖ / ‖δ‖ of the residual stream's own δ, which no feature has.
    """

    delta: torch.Tensor
    uncovered: float

    @property
    def moving(self) -> list[int]:
        """The features whose code changes at some position, in order."""
        return [int(j) for j in self.delta.any(0).nonzero().flatten()]


@isolated()
def feature_moves(
    model: Any,
    pair: PromptPair | TokenPair,
    autoencoder: SparseAutoencoder,
    direction: str = "noising",
    *,
    metric: AnyMetric = LOGPROB,
) -> Moves:
    """The codes' change from the base run to the other one; under zero corruption to no feature.

    ModelError where the autoencoder does not fit the model, else as in base_run.
    """
    check_fits(autoencoder, model)
    tokens = as_token_pair(model, pair)
    at = Hooks((autoencoder.kind.hook,))
    run = base_run(model, tokens, at, direction, metric, tokens.first_changed)
    (a,), (d,) = run.base, run.delta
    with torch.no_grad():
        before = autoencoder.encode(a[0])
        after = torch.zeros_like(before) if run.to_zero else autoencoder.encode((a + d)[0])
    moved = after - before
    moved[: max(0, tokens.first_changed - run.start)] = 0  # rounding, where nothing changed
    size = float(d.norm())
    rest = float((d[0] - moved @ autoencoder.W_dec).norm())
    early = moved.new_zeros(run.start, moved.shape[1])
    return Moves(torch.cat([early, moved]), rest / size if size else 0.0)


def feature_patches(
    moves: Moves, autoencoder: SparseAutoencoder, features: Iterable[int] | None = None
) -> list[Patch]:
    """A patch for each feature that moves, or of some; its index is the feature's number.

    ValueError for a feature that the autoencoder does not have.
    """
    kind, chosen = autoencoder.kind, moves.moving if features is None else list(features)
    for j in chosen:
        if not 0 <= j < autoencoder.n_features:
            raise ValueError(
                f"feature {j} requested of {autoencoder.name}, which has {autoencoder.n_features}"
            )
    return [
        Patch(
            kind.hook,
            kind.layer,
            moves.delta[:, j, None] * autoencoder.W_dec[j],
            index=j,
        )
        for j in chosen
    ]


@isolated()
def feature_jets(
    model: Any,
    pair: PromptPair | TokenPair,
    autoencoder: SparseAutoencoder,
    nodes: Iterable[float] | Mapping[float, int] = (0.0,),
    order: int = 2,
    backend: str = "auto",
    features: Iterable[int] | None = None,
    direction: str = "noising",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
    *,
    metric: AnyMetric = LOGPROB,
) -> Jets:
    """Derivatives of the path of every feature that the corruption moves, as path_jets has them.

    The components' layer is that of the autoencoder's hook, their index the feature's number;
    features: some of them. ModelError where the autoencoder does not fit the model; ValueError
    where no feature moves, else as in path_jets.
    """
    tokens = as_token_pair(model, pair)
    moves = feature_moves(model, tokens, autoencoder, direction, metric=metric)
    return jets_of_moves(
        *(model, tokens, autoencoder, moves, nodes, order, backend, features, direction, memory),
        progress=progress,
        metric=metric,
    )


def jets_of_moves(
    model: Any,
    tokens: TokenPair,
    autoencoder: SparseAutoencoder,
    moves: Moves,
    nodes: Iterable[float] | Mapping[float, int],
    order: int,
    backend: str,
    features: Iterable[int] | None,
    direction: str,
    memory: int,
    *,
    progress: Progress = no_progress,
    metric: AnyMetric = LOGPROB,
) -> Jets:
    """`feature_jets` of codes whose change is known."""
    patches = feature_patches(moves, autoencoder, features)
    if not patches:
        raise ValueError(
            f"no feature of {autoencoder.name} moves between the runs of prompt "
            f"'{tokens.prompt_id}'; take an autoencoder with more active features"
        )
    return path_jets(
        *(model, tokens, None, nodes, order, backend, None, direction, memory, progress),
        patches=patches,
        metric=metric,
    )


def no_jets(nodes: Mapping[float, int]) -> Jets:
    """The jets of no feature at all."""
    width = max(nodes.values()) + 1
    empty = pd.DataFrame({"layer": [], "index": []}, dtype="int64")
    return Jets(torch.zeros(0, len(nodes), width, dtype=torch.float64), tuple(nodes), empty)
