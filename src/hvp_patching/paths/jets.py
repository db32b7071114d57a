"""Jets of patch paths: f, f', f'', … at chosen nodes, for many components of one prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from hvp_patching.isolation import isolated
from hvp_patching.paths.autograd import autograd_jets
from hvp_patching.paths.automatic import auto_jets
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import (
    Patch,
    Positions,
    checked_patches,
    first_moved,
    fitted,
    hooks_of,
    patch_table,
    requested_patches,
)
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, Request, no_progress
from hvp_patching.paths.run import BaseRun
from hvp_patching.paths.tangent import check_reach, tangent_jets
from hvp_patching.paths.taylor import MAX_ORDER
from hvp_patching.paths.taylor.passes import taylor_jets
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import Component, get_site

Backend = Callable[[BaseRun, Sequence[Patch], Request, int, Progress], torch.Tensor]
BACKENDS: dict[str, Backend] = {
    "taylor": taylor_jets,
    "autograd": autograd_jets,
    "tangent": tangent_jets,
}
ENGINE_VERSION = 1  # part of every store key: raise it when jets change beyond rounding


@dataclass(frozen=True)
class Jets:
    """Derivatives of f(t) = m(a + tδ) for the components of one prompt.

    values: float64 [n_components, n_nodes, order + 1], f, f', f'', …; NaN where a node was asked
    for a lower order. nodes: points of [0, 1]. components: DataFrame with columns layer, index
    and, where positions were asked for apart, position (counted over the prompt, with BOS).
    """

    values: torch.Tensor
    nodes: tuple[float, ...]
    components: pd.DataFrame

    def at(self, node: float, order: int) -> torch.Tensor:
        """The derivative of `order` at `node`, [n_components]; ValueError if not computed."""
        for i, known in enumerate(self.nodes):
            if abs(known - node) < 1e-9 and order < self.values.shape[2]:
                column = self.values[:, i, order]
                if not bool(column.isnan().all()):
                    return column
        raise ValueError(
            f"the jets hold no derivative of order {order} at node {node:g}; "
            f"compute them with path_jets(nodes=..., order=...)"
        )

    def to_frame(self, prompt_id: str) -> pd.DataFrame:
        """One row per component and node: prompt_id, layer, index[, position], node, f, f1, …"""
        n, m, width = self.values.shape
        frame = self.components.loc[self.components.index.repeat(m)].reset_index(drop=True)
        frame.insert(0, "prompt_id", prompt_id)
        frame["node"] = list(self.nodes) * n
        names = ["f", *(f"f{k}" for k in range(1, width))]
        frame[names] = self.values.reshape(n * m, width).numpy()
        return frame

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Jets:
        """The inverse of to_frame, for the rows of one prompt, in their order.

        ValueError if the components do not all have the same nodes in the same order.
        """
        nodes = tuple(float(node) for node in frame["node"].unique())
        if list(frame["node"]) != list(nodes) * (len(frame) // len(nodes)):
            raise ValueError(
                "the rows of a jets table are out of order: sort by layer, index, node"
            )
        names = [name for name in ("f", "f1", "f2", "f3") if name in frame]
        values = torch.tensor(frame[names].to_numpy()).reshape(-1, len(nodes), len(names))
        columns = [name for name in ("layer", "index", "position") if name in frame]
        components = frame[columns].drop_duplicates().reset_index(drop=True)
        return cls(values, nodes, components)


@isolated()
def path_jets(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str | None = None,
    nodes: Iterable[float] | Mapping[float, int] = (0.0,),
    order: int = 2,
    backend: str = "auto",
    components: Iterable[Component] | None = None,
    direction: str = "noising",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
    *,
    positions: Positions = None,
    patches: Iterable[Patch] | None = None,
    metric: AnyMetric = LOGPROB,
) -> Jets:
    """Derivatives of the patch path f(t) = m(a + tδ) of every component (section 3.1).

    site: 'attn_heads' by default; nodes: points in [0, 1], or a mapping from node to the order
    wanted there (then `order` is ignored); order: 0 to 3; backend: 'taylor', 'autograd', 'tangent'
    (order 2 at t = 0 at most, for less), or 'auto' (tangents there, else Taylor mode, and autograd
    with one warning where Taylor mode cannot run the model or prove its result); components:
    (layer, index) pairs, all by default; memory: bytes for one pass; progress is called with the
    fraction of the work that each pass has done.
    positions: 'each', or a list: every (layer, index, position) is a component of its own, patched
    at this position alone, BOS counted; those before the first changed token do not move (f' = 0).
    patches: paths of one's own instead of a site's. metric: 'logprob' (nats), logit_difference(…),
    or a function from the last position's logits, float64 [vocabulary], to one scalar.
    ValueError for an unknown site, backend, direction or metric, a node outside [0, 1], an order
    outside 0…3, either beyond the backend's reach, positions outside the prompt, a patch whose
    direction does not fit, a bad pair, a model in train mode, and results that cannot be right
    (base_run, UnsupportedOperation, derivatives that are not finite).
    """
    request = normalise_request(nodes, order)
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown backend '{backend}'; choose auto, {', '.join(BACKENDS)}")
    if backend == "tangent":
        check_reach(request)
    tokens = as_token_pair(model, pair)
    if patches is None:
        run = base_run(model, tokens, get_site(site or "attn_heads"), direction, metric)
        chosen = requested_patches(run, components, positions)
    else:
        _check_alone(site=site, components=components, positions=positions)
        given = checked_patches(model, patches)
        start = first_moved(given, tokens)
        run = base_run(model, tokens, hooks_of(given), direction, metric, start)
        chosen = fitted(run, given, tokens)
    values = _moving(run, chosen, request, backend, memory, progress)
    return Jets(values, tuple(request), patch_table(chosen))


def _check_alone(**others: Any) -> None:
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"{name} and patches are given; patches say where they lie themselves")


def _moving(
    run: BaseRun,
    patches: Sequence[Patch],
    request: Request,
    backend: str,
    memory: int,
    progress: Progress,
) -> torch.Tensor:
    """Jets of all patches; before the first changed token there is nothing to compute."""
    moving = [i for i, patch in enumerate(patches) if not patch.is_before(run.start)]
    if len(moving) == len(patches):
        return _compute(run, patches, request, backend, memory, progress)
    values = torch.zeros(len(patches), len(request), max(request.values()) + 1, dtype=torch.float64)
    values[..., 0] = run.value
    for i, order in enumerate(request.values()):
        values[:, i, order + 1 :] = torch.nan
    if moving:
        chosen = [patches[i] for i in moving]
        values[moving] = _compute(run, chosen, request, backend, memory, progress)
    return values


def _compute(
    run: BaseRun,
    patches: Sequence[Patch],
    request: Request,
    backend: str,
    memory: int,
    progress: Progress,
) -> torch.Tensor:
    compute = auto_jets if backend == "auto" else BACKENDS[backend]
    return compute(run, patches, request, memory, progress)


def normalise_request(nodes: Iterable[float] | Mapping[float, int], order: int) -> dict[float, int]:
    """Nodes as a checked mapping from node to order; ValueError names the offending value."""
    request: dict[float, int] = {}
    for node, wanted in _items(nodes, order):
        if not 0.0 <= node <= 1.0:
            raise ValueError(f"node {node:g} lies outside [0, 1]")
        if wanted not in range(MAX_ORDER + 1):
            raise ValueError(f"order {wanted} requested; orders 0 to {MAX_ORDER} are available")
        if node in request:
            raise ValueError(f"node {node:g} is requested twice")
        request[node] = int(wanted)
    if not request:
        raise ValueError("no nodes requested; give at least one point in [0, 1]")
    return request


def _items(nodes: Any, order: int) -> list[tuple[float, int]]:
    """(node, order) as requested; a single number is a single node."""
    try:
        if isinstance(nodes, Mapping):
            return [(float(node), wanted) for node, wanted in nodes.items()]
        single = isinstance(nodes, int | float)
        return [(float(node), order) for node in ([nodes] if single else nodes)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"nodes are numbers in [0, 1], not {nodes!r}") from error


@isolated()
def activation_patching(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str | None = None,
    components: Iterable[Component] | None = None,
    direction: str = "noising",
    backend: str = "auto",
    memory: int = DEFAULT_MEMORY,
    **options: Any,
) -> torch.Tensor:
    """True effect Δ = f(1) − f(0) of patching each component, float64 [n_components].

    In the metric's units. Section 3.1. options: positions, patches and metric, as in path_jets,
    whose errors these are.
    """
    ends = {0.0: 0, 1.0: 0}
    jets = path_jets(model, pair, site, ends, 0, backend, components, direction, memory, **options)
    return jets.at(1.0, 0) - jets.at(0.0, 0)
