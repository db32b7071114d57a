"""Training a top-k autoencoder (Gao et al., 2024) on activations, small enough for a laptop.

x is scaled to a mean norm of √d, decoder rows keep unit norm, features that have not been active
for long learn from the error that the others leave. Batches follow from the seed and the step, and
the state passes through the store: a killed run goes on where it was, to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hvp_patching.features.autoencoder import Kind, SparseAutoencoder, Weights
from hvp_patching.features.keys import WorkKey
from hvp_patching.isolation import isolated
from hvp_patching.models.errors import ModelError
from hvp_patching.store import Entry, Store

TRAINING_VERSION = 1
NAMES = ("W_enc", "W_dec", "b_enc", "b_dec")
BETAS, EPSILON = (0.9, 0.999), 6.25e-10
RATE = 4e-4  # at full speed; linear warm-up, linear end
WARM_UP, COOL_DOWN = 0.02, 0.25  # shares of the steps
IDLE = 150  # steps without activity from which a feature counts as dead
DEAD_SHARE = 1 / 32  # of the dead features' loss
SECONDS_BETWEEN_SAVES = 45.0
Advance = Callable[[int], Any]  # called with steps that were done


@dataclass(frozen=True)
class Plan:
    """n_features, k: of the autoencoder; steps, batch: of activations at random, each."""

    n_features: int
    k: int
    steps: int
    batch: int = 1024

    def check(self, n_tokens: int) -> None:
        """ModelError for a plan that cannot be carried out."""
        if not 1 <= self.k <= self.n_features:
            raise ModelError(f"k = {self.k} of {self.n_features} features; lower it or widen")
        if self.steps < 1 or not 1 <= self.batch <= n_tokens:
            raise ModelError(
                f"{self.steps} steps of {self.batch} tokens with {n_tokens} tokens there; a step "
                "takes from 1 to all of them"
            )


@dataclass(frozen=True)
class TrainingKey(WorkKey):
    """Everything that a training run depends on; its entry is how far it has come."""

    texts: str
    hook: str
    n_features: int
    k: int
    steps: int
    batch: int
    version: int = TRAINING_VERSION


@dataclass
class State:
    """Weights under training with Adam's moments, steps without activity, and steps done."""

    weights: Weights
    first: Weights
    second: Weights
    idle: torch.Tensor
    step: int = 0

    def entry(self) -> Entry:
        """As the store takes it."""
        found = {"idle": self.idle, "step": torch.tensor([self.step])}
        for kind in ("weights", "first", "second"):
            found |= {f"{kind}.{key}": value for key, value in getattr(self, kind).items()}
        return found

    @classmethod
    def of_entry(cls, entry: Entry) -> State:
        """The inverse of entry."""
        weights, first, second = (
            {key: entry[f"{kind}.{key}"].clone() for key in NAMES}
            for kind in ("weights", "first", "second")
        )
        return cls(weights, first, second, entry["idle"].clone(), int(entry["step"]))


@isolated()
def train_autoencoder(
    x: torch.Tensor,
    hook: str,
    plan: Plan,
    store: Store,
    key: TrainingKey,
    environment: Any,
    advance: Advance = lambda steps: None,
    clock: Callable[[], float] = time.monotonic,
    name: str = "the autoencoder",
) -> SparseAutoencoder:
    """An autoencoder of activations x, float32 [n, d]; advance also hears of resumed steps.

    ModelError for a plan that does not fit, or where x or the weights are not finite.
    """
    plan.check(len(x))
    if not bool(x.isfinite().all()):
        raise ModelError(f"activations at {hook} are not finite; load the model in float32")
    scale = x.shape[1] ** 0.5 / float(x.norm(dim=1).mean())
    variance = float((x - x.mean(0)).square().sum(1).mean()) * scale**2
    kept = store.get(key)
    state = State.of_entry(kept) if kept else _first(x, plan, key.seed, scale)
    advance(state.step)
    saved = clock()
    while state.step < plan.steps:
        rows = _rows(len(x), plan.batch, key.seed, state.step)
        _step(state, plan, x[rows] * scale, variance)
        advance(1)
        if state.step == plan.steps or clock() - saved > SECONDS_BETWEEN_SAVES:
            store.put(key, state.entry(), environment)
            saved = clock()
    # codes and decoder rows in units of x itself: rectified top-k is homogeneous
    weights = dict(state.weights)
    weights |= {name: weights[name] / scale for name in ("b_enc", "b_dec")}
    return SparseAutoencoder(Kind(hook, "topk", plan.k), weights, name)


def _first(x: torch.Tensor, plan: Plan, seed: int, scale: float) -> State:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(plan.n_features, x.shape[1], generator=generator)
    rows /= rows.norm(dim=1, keepdim=True)
    weights = {
        "W_enc": rows.T.contiguous(),
        "W_dec": rows,
        "b_enc": torch.zeros(plan.n_features),
        "b_dec": x.mean(0) * scale,
    }
    first, second = (
        {key: torch.zeros_like(value) for key, value in weights.items()} for _ in range(2)
    )
    return State(weights, first, second, torch.zeros(plan.n_features, dtype=torch.int64))


def _rows(n: int, batch: int, seed: int, step: int) -> torch.Tensor:
    """Rows of a step: every epoch goes once through a permutation of its own."""
    per_epoch = n // batch
    epoch, place = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch + 1)
    order = torch.randperm(n, generator=generator)
    return order[place * batch : (place + 1) * batch]


def _step(state: State, plan: Plan, x: torch.Tensor, variance: float) -> None:
    """One step of Adam on the weights of `state`, in place."""
    leaves = {key: value.detach().requires_grad_() for key, value in state.weights.items()}
    loss, active = _loss(leaves, plan, x, variance, state.idle > IDLE)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    state.step += 1
    with torch.no_grad():
        for key, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                _adam(state, key, gradient, rate(state.step, plan.steps))
        rows = state.weights["W_dec"]
        rows /= rows.norm(dim=1, keepdim=True)
        state.idle += 1
        state.idle[active] = 0


def _loss(
    w: Weights, plan: Plan, x: torch.Tensor, variance: float, dead: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error over the variance, with the dead features' share, and the active features."""
    pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    error = x - _decoded(w, pre, plan.k) - w["b_dec"]
    loss = error.square().sum(1).mean() / variance
    with torch.no_grad():
        top = pre.topk(plan.k, dim=1)
        active = torch.unique(top.indices[top.values > 0])
    n_dead = int(dead.sum())
    if n_dead:
        # they explain what the others leave, as many of them at once as half the width
        helped = _decoded(w, pre.masked_fill(~dead, -torch.inf), min(n_dead, x.shape[1] // 2))
        left = error.detach()
        extra = (helped - left).square().sum() / left.square().sum()
        loss = loss + DEAD_SHARE * extra.nan_to_num(0.0)
    return loss, active


def _decoded(w: Weights, pre: torch.Tensor, k: int) -> torch.Tensor:
    top = pre.topk(k, dim=1)
    codes = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    return codes @ w["W_dec"]


def rate(step: int, steps: int) -> float:
    """Learning rate of a step, counted from 1."""
    warm, cool = max(1.0, WARM_UP * steps), max(1.0, COOL_DOWN * steps)
    return RATE * min(1.0, step / warm, (steps - step + 1) / cool)


def _adam(state: State, key: str, gradient: torch.Tensor, speed: float) -> None:
    first, second = state.first[key], state.second[key]
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    unbiased = (second / (1 - BETAS[1] ** state.step)).sqrt_().add_(EPSILON)
    state.weights[key].addcdiv_(first, unbiased, value=-speed / (1 - BETAS[0] ** state.step))
