"""GradDrop of AtP* (Kramár et al. 2024, section 3.2): one estimate per dropped layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hvp_patching.paths.gradients import (
    component_sums,
    hook_gradients,
    rows_per_reverse_pass,
)
from hvp_patching.paths.rows import DEFAULT_MEMORY
from hvp_patching.paths.run import BaseRun
from hvp_patching.sites import Hook, Site, n_layers

# What a layer adds to the residual stream, behind the norms that some families put there.
BRANCHES = ("hook_attn_out", "hook_mlp_out")
Directions = Sequence[torch.Tensor]  # per layer, [1, n_suffix, ...] at the run's site


def grad_drop(
    run: BaseRun, directions: Sequence[Directions], memory: int = DEFAULT_MEMORY
) -> list[torch.Tensor]:
    """AtP* estimates for each set of patch directions, float64 [n_components] each, in nats.

    The mean of |gradient · direction| over the L layers dropped in turn, times L/(L − 1): with
    its own layer dropped a node scores 0, so a node without indirect effects keeps its AtP score.
    The paper ranks nodes by this size. The estimate here has the sign of gradient · direction
    with nothing dropped, to be compared with signed effects. ValueError for one-layer models.
    """
    layers, site = n_layers(run.model), run.site
    if not isinstance(site, Site):
        raise TypeError(f"{site.label} is no site")
    if layers < 2:
        raise ValueError(f"GradDrop needs at least 2 layers, and the model has {layers}")
    # the row that drops layer number `layers`, which does not exist, drops nothing
    rows = torch.arange(layers + 1, device=run.suffix.device)
    parts: list[list[torch.Tensor]] = [[] for _ in directions]
    for chunk in torch.split(rows, rows_per_reverse_pass(run, memory)):
        gradients = _gradients(run, chunk)
        for part, direction in zip(parts, directions, strict=True):
            part.append(component_sums(site, gradients, direction))
    return [_signed_mean(torch.cat(part)).cpu() for part in parts]


def _signed_mean(scores: torch.Tensor) -> torch.Tensor:
    """[L + 1, n_components] → [n_components]; the last row, with nothing dropped, gives signs."""
    dropped, plain = scores[:-1], scores[-1]
    size = dropped.abs().sum(0) / (len(dropped) - 1)
    return torch.where(plain < 0, -size, size)


def _gradients(run: BaseRun, dropped: torch.Tensor) -> list[torch.Tensor]:
    """∂m/∂a at the site in every layer [n_rows, n_suffix, ...]; row i drops layer dropped[i]."""
    layers = range(n_layers(run.model))
    zeros = [delta.new_zeros(len(dropped), *delta.shape[1:]) for delta in run.delta]
    drops = [
        (f"blocks.{layer}.{branch}", _drop(dropped == layer))
        for layer in layers
        for branch in BRANCHES
    ]
    return hook_gradients(run.repeated(len(dropped)), run.names, zeros, drops)


def _drop(rows: torch.Tensor) -> Hook:
    """Let the value through and stop the gradient in the given rows."""

    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return torch.where(rows.view(-1, 1, 1), activation.detach(), activation)

    return hook
