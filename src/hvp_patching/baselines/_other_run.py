"""What needs gradients of both runs, or between them: zero corruption has no second one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hvp_patching.failures import architecture
from hvp_patching.paths.gradients import adders
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.run import BaseRun
from hvp_patching.prompts.pair import (
    ZERO_CORRUPTION,
    PromptPair,
    TokenPair,
    as_token_pair,
    label,
)
from hvp_patching.sites import Hook


def tokens_of_two_runs(model: Any, pair: PromptPair | TokenPair, name: str) -> TokenPair:
    """The tokenised pair; ValueError in the baseline's name under zero corruption."""
    tokens = as_token_pair(model, pair)
    if tokens.corruption == ZERO_CORRUPTION:
        raise ValueError(
            f"{label(tokens)}: {name} reads gradients of the corrupted run, which zero corruption "
            "does not have; choose another corruption or another baseline"
        )
    return tokens


def gradients_beside_other(
    run: BaseRun, n_rows: int, hooks: Sequence[tuple[str, Hook]] = ()
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Gradients at the site of `n_rows` runs and the other run, from one reverse pass, and their m.

    Per layer [n_rows + 1, n_suffix, ...], and m [n_rows + 1]; the other run is the last row.
    hooks: what tells the rows apart, before the site's. ValueError where the last row's m is not
    that of the other run.
    """
    rows = run.beside_other(n_rows)
    zeros = [delta.new_zeros(n_rows + 1, *delta.shape[1:]) for delta in run.delta]
    for zero in zeros:
        zero.requires_grad_()
    with torch.enable_grad(), DecomposedLayerNorm():
        m = run.metric(rows.logits([*hooks, *adders(run.names, zeros)], rows.prefix))
        gradients = torch.autograd.grad(m.sum(), zeros)
    met = m.detach().double()
    if not bool((met[-1] - run.other_value).abs() <= run.slack):
        raise ValueError(
            f"the other run of {run.prompt} gives {float(met[-1]):.6f} beside this one where "
            f"{architecture(run.model)} gives {run.other_value:.6f} by itself"
        )
    return list(gradients), met
