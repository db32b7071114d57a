"""The Gauss–Newton form of a patch path: the curvature of the metric alone, not of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Patch, Positions, requested_patches
from hvp_patching.paths.rows import DEFAULT_MEMORY, Pass, Row, chunks, gather, make_rows
from hvp_patching.paths.run import BaseRun
from hvp_patching.paths.taylor import TaylorTensor
from hvp_patching.paths.taylor.passes import logits_along, proven_jets, rows_per_pass
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import Component, get_site

AT_ZERO = {0.0: 2}  # ap and the form are the first two derivatives of m along straightened logits


@isolated()
def gauss_newton_form(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    components: Iterable[Component] | None = None,
    direction: str = "noising",
    memory: int = DEFAULT_MEMORY,
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> tuple[torch.Tensor, torch.Tensor]:
    """AP and δᵀJᵀ(∇²_logits m)Jδ of every component at t = 0, float64 [n_components] each.

    J is the Jacobian of the last position's logits (after any soft cap) with respect to the
    component's activation: one Taylor pass of order 1 (section 4.2). In the metric's units. memory:
    bytes for one pass; positions: each of them has its own number, as in path_jets. Errors as in
    path_jets; UnsupportedOperation where Taylor mode lacks an operation of the model.
    """
    run = base_run(model, as_token_pair(model, pair), get_site(site), direction, metric)
    patches = requested_patches(run, components, positions)
    derivatives = gather(patches, AT_ZERO, _passes(run, patches, memory))[:, 0]
    return derivatives[:, 1], derivatives[:, 2]


def _passes(run: BaseRun, patches: Sequence[Patch], memory: int) -> Iterator[Pass]:
    rows = make_rows(patches, list(AT_ZERO))
    for chunk in chunks(rows, rows_per_pass(run, 2, memory)):
        yield chunk, proven_jets(run, partial(_straightened, run, chunk))


def _straightened(run: BaseRun, rows: Sequence[Row]) -> TaylorTensor:
    """The logits' straight line c0 + s·Jδ as a polynomial of order 2: the curvature left is m's."""
    logits = logits_along(run, rows, order=1, shared=True)
    slope = logits.higher
    return TaylorTensor(logits.c0, torch.cat([slope, torch.zeros_like(slope)]), logits.rows)
