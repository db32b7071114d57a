"""Spectrum of the residual stream's Hessian: what a sketch of few products could know of q.

H is the Hessian of the metric in the residual stream behind a layer, at all positions from the
first changed token on, in the unpatched run. A neuron of that layer writes δ_i at its row of the
output matrix, u_i, and q_i = u_iᵀ H u_i. The k eigenpairs of largest |λ| make of it
Σ_j≤k λ_j (v_j · u_i)²; no other matrix of rank k is nearer to H in the Frobenius norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from hvp_patching.failures import architecture
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.jets import path_jets
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.precision import DecomposedLayerNorm, tolerance
from hvp_patching.paths.run import BaseRun, check_met
from hvp_patching.paths.vector_hvp import ContiguousLinear
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import Component, get_site, resolve_components

SPECTRUM_VERSION = 1  # part of every store key: raise it when numbers change beyond rounding
STREAM, NEURONS = "resid_post", "mlp_post"
PRECISION = {torch.float64: 1e-9, torch.float32: 1e-4}  # of eigenvalues, relative
PROBES = 8  # random signs for what the eigenvalues leave of ‖H‖

Products = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Spectrum:
    """The eigenpairs of largest |λ| at one layer, and what they say of its neurons' q.

    eigenvalues: float64 [rank], by falling size, in the metric's units per squared unit of the
    stream; norm: ‖H‖ (Frobenius), from random probes; q: exact q_i of the neurons, float64
    [n_neurons]; q_by_rank: what the first 1, 2, … pairs make of it, float64 [rank, n_neurons];
    components: (layer, index) of the neurons; size: rows of H; products: how many were taken.
    """

    eigenvalues: torch.Tensor
    norm: float
    q: torch.Tensor
    q_by_rank: torch.Tensor
    components: tuple[Component, ...]
    size: int
    products: int


@isolated()
def residual_spectrum(
    model: Any,
    pair: PromptPair | TokenPair,
    layer: int,
    rank: int = 64,
    neurons: Sequence[int] | None = None,
    direction: str = "noising",
    seed: int = 0,
    *,
    metric: AnyMetric = LOGPROB,
) -> Spectrum:
    """Eigenpairs of H behind a layer by Lanczos (ARPACK), and q of that layer's neurons by them.

    neurons: indices of mlp_post, all by default; seed: of the first vector and the probes.
    ValueError for a layer or neuron outside the model, a rank that is not below the size of H, a
    model whose MLP writes through a norm (Gemma), iterations that do not converge, and as in
    path_jets.
    """
    tokens = as_token_pair(model, pair)
    stream = base_run(model, tokens, get_site(STREAM), direction, metric)
    source = base_run(model, tokens, get_site(NEURONS), direction, metric)
    wanted = [(layer, i) for i in (range(_width(source, layer)) if neurons is None else neurons)]
    components = resolve_components(get_site(NEURONS), source.sizes, wanted)
    size = stream.delta[layer].numel()
    if not 1 <= rank < size:
        raise ValueError(
            f"{rank} eigenvalues are asked for, and the Hessian of {tokens.prompt_id} has {size} "
            f"rows; choose 1 to {size - 1}"
        )
    count = [0]
    products = _counted(hessian_products(stream, layer), count)
    draw = torch.Generator().manual_seed(seed)
    precision = PRECISION.get(model.cfg.dtype, 1e-4)
    values, vectors = _largest(products, size, rank, draw, precision)
    norm = _norm(products, values, vectors, draw)
    changes = _changes(source, layer, vectors, [i for _, i in components])
    by_rank = (values[:, None] * changes.square()).cumsum(0)
    jets = path_jets(
        *(model, tokens, NEURONS, {0.0: 2}, 2, "auto", components, direction), metric=metric
    )
    return Spectrum(values, norm, jets.at(0.0, 2), by_rank, components, size, count[0])


def hessian_products(run: BaseRun, layer: int) -> Products:
    """H u of vectors u, float64 [size], at the residual stream behind a layer."""
    shift = torch.zeros_like(run.delta[layer]).requires_grad_()
    hook = (run.names[layer], lambda activation, hook: activation + shift)
    with torch.enable_grad(), DecomposedLayerNorm(), ContiguousLinear():
        m = run.metric(run.logits([hook], run.prefix_copy()))
        check_met(run, m.detach(), "a pass in which nothing moves")
        (gradient,) = torch.autograd.grad(m.sum(), shift, create_graph=True)

    def product(u: torch.Tensor) -> torch.Tensor:
        along = u.to(shift).view_as(shift)
        with DecomposedLayerNorm(), ContiguousLinear():
            (found,) = torch.autograd.grad(gradient, shift, along, retain_graph=True)
        return found.detach().double().flatten().cpu()

    return product


def _counted(products: Products, count: list[int]) -> Products:
    def product(u: torch.Tensor) -> torch.Tensor:
        count[0] += 1
        return products(u)

    return product


def _norm(
    products: Products, values: torch.Tensor, vectors: torch.Tensor, draw: torch.Generator
) -> float:
    """‖H‖ from the eigenvalues, and the rest from ‖H z‖² of random signs z beside their space."""
    signs = torch.randint(0, 2, (PROBES, vectors.shape[1]), generator=draw).double() * 2 - 1
    signs = signs - (signs @ vectors.T) @ vectors
    rest = torch.stack([products(z).square().sum() for z in signs]).mean()
    return float((values.square().sum() + rest).sqrt())


def _largest(
    products: Products, size: int, rank: int, draw: torch.Generator, precision: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues [rank] by falling size, and their vectors [rank, size]."""
    operator = LinearOperator(
        (size, size), lambda u: products(torch.from_numpy(u).flatten()).numpy(), dtype=np.float64
    )
    start = torch.randn(size, generator=draw, dtype=torch.float64).numpy()
    held = min(size, max(2 * rank + 1, 20))
    try:
        values, vectors = eigsh(operator, rank, which="LM", v0=start, ncv=held, tol=precision)
    except ArpackNoConvergence as error:
        raise ValueError(
            f"{len(error.eigenvalues)} of {rank} eigenvalues of the residual stream's Hessian were "
            "found; ask for fewer, or load the model in float64"
        ) from None
    order = np.argsort(-np.abs(values), kind="stable")
    found = torch.from_numpy(values[order].copy()), torch.from_numpy(vectors.T[order].copy())
    _check_pairs(products, *found, precision)
    return found


def _check_pairs(
    products: Products, values: torch.Tensor, vectors: torch.Tensor, precision: float
) -> None:
    """ValueError unless H v = λ v for the first and last pair, to the precision asked for."""
    for place in (0, len(values) - 1):
        off = float((products(vectors[place]) - values[place] * vectors[place]).norm())
        if not off <= 10 * precision * float(values[0].abs()):
            raise ValueError(
                f"eigenvalue {place + 1} of the residual stream's Hessian is "
                f"{float(values[place]):.6g} and off by {off:.2g}; load the model in float64"
            )


def _changes(
    source: BaseRun, layer: int, vectors: torch.Tensor, indices: Sequence[int]
) -> torch.Tensor:
    """v_j · u_i of every vector and neuron, float64 [rank, n_neurons].

    The vectors are carried back to the neurons. ValueError unless that is the same wherever the
    neurons stand: they add up in the stream.
    """
    delta = source.delta[layer]
    back = _carried_back(source, layer, torch.zeros_like(delta))
    here, there = back(vectors[0]), _carried_back(source, layer, delta.clone())(vectors[0])
    if bool((here - there).abs().max() > tolerance(delta.dtype) * here.abs().max()):
        raise ValueError(
            f"the MLP of layer {layer} of {architecture(source.model)} writes through a norm, "
            "behind which its neurons do not add up; take a model without one"
        )
    rows = [(back(vector) * delta.double())[0].sum(0)[list(indices)].cpu() for vector in vectors]
    return torch.stack(rows)


def _carried_back(source: BaseRun, layer: int, at: torch.Tensor) -> Products:
    """Gradients at the neurons, moved by `at`, of v · the stream behind their layer."""
    at = at.requires_grad_()
    found: list[torch.Tensor] = []

    def keep(activation: torch.Tensor, hook: object) -> torch.Tensor:
        found.append(activation)
        return activation.detach()

    stream = get_site(STREAM).hook_name(layer)
    hooks = [(source.names[layer], lambda activation, hook: activation + at), (stream, keep)]
    with torch.enable_grad():
        source.logits(hooks, source.prefix_copy())
    (end,) = found

    def back(vector: torch.Tensor) -> torch.Tensor:
        along = vector.to(end).view_as(end)
        (gradient,) = torch.autograd.grad(end, at, along, retain_graph=True)
        return gradient.double()

    return back


def _width(run: BaseRun, layer: int) -> int:
    if not 0 <= layer < len(run.sizes):
        raise ValueError(f"layer {layer} requested, but the model has {len(run.sizes)} layers")
    return run.sizes[layer]
