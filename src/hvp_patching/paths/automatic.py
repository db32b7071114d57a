"""Backend 'auto': of the backends that prove their result, the cheapest for each part of a request.

Order 2 at t = 0 comes from tangents, the rest from Taylor mode; where Taylor mode cannot run the
model, everything comes from autograd.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from hvp_patching.paths.autograd import autograd_jets
from hvp_patching.paths.patches import Patch
from hvp_patching.paths.rows import Progress, Request, no_progress
from hvp_patching.paths.run import BaseRun
from hvp_patching.paths.tangent import HIGHEST, tangent_jets
from hvp_patching.paths.taylor import UnsupportedOperation
from hvp_patching.paths.taylor.passes import taylor_jets

log = logging.getLogger(__name__)


def auto_jets(
    run: BaseRun,
    patches: Sequence[Patch],
    request: Request,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets [n_patches, n_nodes, max order + 1], NaN where the request asks for less.

    One warning where only autograd is left; the numbers are the same. ValueError as in
    autograd_jets.
    """
    try:
        return _forward_jets(run, patches, request, memory, progress)
    except UnsupportedOperation as error:
        log.warning("%s; falling back to the autograd backend", error)
        return autograd_jets(run, patches, request, memory, progress)


def _forward_jets(
    run: BaseRun, patches: Sequence[Patch], request: Request, memory: int, progress: Progress
) -> torch.Tensor:
    """Tangents where they reach and prove themselves, Taylor mode for the rest."""
    if request.get(0.0) != HIGHEST:
        return taylor_jets(run, patches, request, memory, progress)

    def part(fraction: float) -> None:
        progress(fraction / len(request))

    try:
        at_zero = tangent_jets(run, patches, {0.0: HIGHEST}, memory, part)
    except UnsupportedOperation as error:
        log.debug("%s; Taylor mode computes f'' at t = 0 instead", error)
        return taylor_jets(run, patches, request, memory, progress)
    rest = {node: order for node, order in request.items() if node != 0.0}
    if not rest:
        return at_zero

    def others(fraction: float) -> None:
        progress(fraction * len(rest) / len(request))

    elsewhere = taylor_jets(run, patches, rest, memory, others)
    width = max(request.values()) + 1
    values = torch.full((len(patches), len(request), width), torch.nan, dtype=torch.float64)
    zero = list(request).index(0.0)
    values[:, zero, : HIGHEST + 1] = at_zero[:, 0]
    places = [i for i in range(len(request)) if i != zero]
    values[:, places, : elsewhere.shape[2]] = elsewhere
    return values
