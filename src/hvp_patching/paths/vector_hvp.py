"""Hessian–vector products H(t)δ along patch paths, as vectors: the Lipschitz probes of B.2.

Batched double backward, one layer per pass as in the autograd backend; no Hessian is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from hvp_patching.isolation import isolated
from hvp_patching.paths.autograd import Grown, check_unmoved, growing, rows_per_pass
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.jets import normalise_request
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Patch, patch_table, site_patches
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.rows import (
    DEFAULT_MEMORY,
    Progress,
    Row,
    by_hook,
    chunks,
    directions,
    make_rows,
    no_progress,
    node_column,
)
from hvp_patching.paths.run import BaseRun
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import Component, Hook, get_site, resolve_components

PROBES_VERSION = 1  # part of every store key: raise it when estimates change beyond rounding
PROBE_COLUMNS = (
    "layer",
    "index",
    "delta_norm",
    "f0",
    "effect",
    "ap",
    "q",
    "lipschitz",
    "lipschitz_scalar",
)


@dataclass(frozen=True)
class VectorProducts:
    """H(t)δ for the components of one prompt, H the Hessian of m in the component's activation.

    f, f1, f2: m, its slope and curvature δᵀH(t)δ along the path, float64 [n_components, n_nodes];
    products: H(t)δ, float64 [n_components, n_nodes, n_suffix, d], where the suffix starts at the
    first changed token and d is the component's width (1 for neurons); delta_norm: ‖δ‖ over all
    positions, float64 [n_components]; components: DataFrame with columns layer, index.
    """

    f: torch.Tensor
    f1: torch.Tensor
    f2: torch.Tensor
    products: torch.Tensor
    delta_norm: torch.Tensor
    nodes: tuple[float, ...]
    components: pd.DataFrame


@isolated()
def hessian_vector_products(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    nodes: Iterable[float] = (0.0, 0.5, 1.0),
    components: Iterable[Component] | None = None,
    direction: str = "noising",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = no_progress,
    *,
    metric: AnyMetric = LOGPROB,
) -> VectorProducts:
    """H(t)δ of every component at `nodes` in [0, 1] (appendix B.2).

    memory: bytes for one pass; progress is called with the fraction of the work that each pass
    has done. Errors as in path_jets.
    """
    request = normalise_request(nodes, 2)
    run = base_run(model, as_token_pair(model, pair), get_site(site), direction, metric)
    chosen = resolve_components(get_site(site), run.sizes, components)
    return vector_products(run, site_patches(run, chosen), tuple(request), memory, progress)


def lipschitz_estimates(products: VectorProducts) -> pd.DataFrame:
    """Lower bounds on the Lipschitz constant of H on each path, from all pairs of nodes (B.2).

    One row per component: layer, index, delta_norm, f0, effect (f(1) − f(0)), ap (f'(0)),
    q (f''(0)), lipschitz (largest ‖H(t)δ − H(s)δ‖ / (|t−s| ‖δ‖²)) and lipschitz_scalar (largest
    |f''(t) − f''(s)| / (|t−s| ‖δ‖³), never above it), both NaN where δ = 0.
    ValueError if the nodes lack 0 or 1.
    """
    nodes = products.nodes
    if not {0.0, 1.0} <= set(nodes):
        have = ", ".join(f"{t:g}" for t in nodes)
        raise ValueError(
            f"Lipschitz estimates need the path's ends among the nodes, which are {have}; "
            "compute the products at nodes 0 and 1 at least"
        )
    start, end = nodes.index(0.0), nodes.index(1.0)
    columns = {
        "delta_norm": products.delta_norm,
        "f0": products.f[:, start],
        "effect": products.f[:, end] - products.f[:, start],
        "ap": products.f1[:, start],
        "q": products.f2[:, start],
        "lipschitz": _steepest(products.products.flatten(2), products, power=2),
        "lipschitz_scalar": _steepest(products.f2[..., None], products, power=3),
    }
    return products.components.assign(**{name: x.numpy() for name, x in columns.items()})


def _steepest(values: torch.Tensor, products: VectorProducts, power: int) -> torch.Tensor:
    """Largest change of `values` [n_components, n_nodes, n] per length and ‖δ‖^(power − 1)."""
    changes = [
        (values[:, i] - values[:, j]).norm(dim=-1) / abs(products.nodes[i] - products.nodes[j])
        for i, j in combinations(range(len(products.nodes)), 2)
    ]
    moved = products.delta_norm.where(products.delta_norm > 0, torch.nan)
    return torch.stack(changes).amax(0) / moved**power


def vector_products(
    run: BaseRun,
    patches: Sequence[Patch],
    nodes: tuple[float, ...],
    memory: int,
    progress: Progress = no_progress,
) -> VectorProducts:
    """H(t)δ of patches of one width, at hooks that the run was recorded at."""
    delta = torch.stack([_flat(patch.direction) for patch in patches]).double().cpu()
    values = delta.new_full((len(patches), len(nodes), 3), torch.nan)
    products = delta.new_full((len(patches), len(nodes), *delta.shape[1:]), torch.nan)
    for rows, jets, vectors in _passes(run, patches, nodes, memory):
        for row, jet, vector in zip(rows, jets, vectors, strict=True):
            values[row.number, nodes.index(row.node)] = jet
            products[row.number, nodes.index(row.node)] = vector
        progress(len(rows) / (len(patches) * len(nodes)))
    norms = delta.flatten(1).norm(dim=1)
    f, f1, f2 = values.unbind(-1)
    return VectorProducts(f, f1, f2, products, norms, nodes, patch_table(patches))


def _passes(
    run: BaseRun, patches: Sequence[Patch], nodes: Sequence[float], memory: int
) -> Iterator[tuple[Sequence[Row], torch.Tensor, torch.Tensor]]:
    grown = growing(run)
    for members in by_hook(make_rows(patches, nodes)).values():
        layer = members[0].patch.layer
        for chunk in chunks(members, rows_per_pass(run, layer, 2, memory)):
            yield chunk, *_pass(run, grown, chunk)


def _pass(run: BaseRun, grown: Grown, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of one hook: f, f', f'' [n_rows, 3] and H(t)δ [n_rows, n_suffix, d]."""
    hook = rows[0].patch.hook
    direction = directions(rows, run.base[run.names.index(hook)], run.start)
    shift = torch.zeros_like(direction).requires_grad_()
    with torch.enable_grad(), DecomposedLayerNorm(), ContiguousLinear():
        logits = grown(hook, len(rows), _patch(run, rows, shift))
        f = run.metric(logits)
        (gradient,) = torch.autograd.grad(f.sum(), shift, create_graph=True)
        f1 = _dot(gradient, direction)
        (product,) = torch.autograd.grad(f1.sum(), shift)
    check_unmoved(run, rows, f)
    jets = torch.stack([f.detach(), f1.detach(), _dot(product, direction)], dim=-1)
    own = [_flat(p[row.patch.where(run.start)]) for row, p in zip(rows, product, strict=True)]
    return jets.cpu(), torch.stack(own).double().cpu()


class ContiguousLinear(TorchFunctionMode):
    """Give linear layers contiguous inputs.

    PyTorch multiplies the rows of a slice, such as the last position before the unembedding, by
    the weight one at a time: half the time of these passes, and a digit of float32, went there.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.linear:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Scalar product of every row, in float64."""
    return (a.double() * b.double()).flatten(1).sum(1)


def _patch(run: BaseRun, rows: Sequence[Row], shift: torch.Tensor) -> Hook:
    """a + tδ + shift: the variable that is differentiated is a shift of every row, at zero."""

    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        direction = directions(rows, activation, run.start)
        return activation + node_column(rows, direction) * direction + shift

    return hook


def _flat(part: torch.Tensor) -> torch.Tensor:
    """A component's part of an activation, [n_suffix, ...], as [n_suffix, d]."""
    return part.reshape(part.shape[0], -1)
