"""An independent oracle of patch paths: forward hooks on the Hugging Face module, no bridge.

f(t) = log p(target) at the last position of the base prompt, in float64, where one component of
one module's input or output is replaced by a + t(a' - a) at every position and everything after it
runs freely. Derivatives are central differences of such plain forward passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .naming import Place

STEPS = (0.02, 0.01, 0.005, 0.0025)
SURE = 1e-6  # errors below this part of a derivative need no smaller steps
SHRINK = (1.0, 1 / 4, 1 / 16, 1 / 64)  # of the steps, where a path bends too sharply for the widest


class WholeDouble(TorchFunctionMode):
    """Computes in float64 what Hugging Face's modules would compute in float32."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if a is torch.float32 else a for k, a in (kwargs or {}).items()}
        return func(*args, **kwargs)


@dataclass(frozen=True)
class Derivatives:
    """f, or f, f', f'', at one node and how far the differences themselves may be off."""

    values: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def unsure(self) -> float:
        """The largest error, in units of the derivative (of 0.1 where it is smaller)."""
        return max(e / max(abs(v), 0.1) for v, e in zip(self.values, self.errors, strict=True))

    def better(self, other: Derivatives) -> Derivatives:
        """Each derivative from the one of the two that knows it better."""
        columns = zip(self.values, self.errors, other.values, other.errors, strict=True)
        chosen = [(v, e) if e <= e2 else (v2, e2) for v, e, v2, e2 in columns]
        return Derivatives(tuple(v for v, _ in chosen), tuple(e for _, e in chosen))


class PlainPath:
    """The patch paths of one site of a Hugging Face model on one pair of token ids."""

    def __init__(
        self, model: Any, place: Place, base: Sequence[int], other: Sequence[int], target: int
    ):
        self.model, self.place, self.target = model, place, target
        self.base = torch.tensor([list(base)])
        self.a = self._record(self.base)
        self.delta = [
            y - x for x, y in zip(self.a, self._record(torch.tensor([list(other)])), strict=True)
        ]

    def _record(self, ids: torch.Tensor) -> list[torch.Tensor]:
        found: dict[int, torch.Tensor] = {}

        def keep(layer: int) -> Callable[[torch.Tensor], None]:
            def note(value: torch.Tensor) -> None:
                found[layer] = value.clone()

            return note

        n = self.place.n_layers()
        self._metric(ids, {layer: keep(layer) for layer in range(n)})
        return [found[layer] for layer in range(n)]

    def _metric(self, ids: torch.Tensor, changes: dict[int, Any]) -> torch.Tensor:
        handles = [
            self.place.attach(self.model, layer, ids.shape[1], change)
            for layer, change in changes.items()
        ]
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad(), WholeDouble():
                logits = self.model(input_ids=ids, use_cache=False).logits[:, -1]
        finally:
            torch.set_default_dtype(default)
            for handle in handles:
                handle.remove()
        return torch.log_softmax(logits.double(), -1)[:, self.target]

    def sizes(self) -> list[int]:
        """Number of components of every layer."""
        return [self.place.split(a).shape[2] for a in self.a]

    def largest(self, layer: int, n: int) -> list[int]:
        """The `n` components of `layer` whose activations change most."""
        squares = self.place.split(self.delta[layer]).square().sum((0, 1))
        norms = squares.reshape(len(squares), -1).sum(-1)
        return [int(i) for i in norms.argsort(descending=True)[:n]]

    def f(self, layer: int, index: int, nodes: Sequence[float]) -> torch.Tensor:
        """The path at `nodes`, each in a row of its own of one forward pass."""
        t = torch.tensor(nodes, dtype=torch.float64).view(-1, *[1] * (self.delta[layer].ndim - 1))

        def patch(value: torch.Tensor) -> torch.Tensor:
            step = torch.zeros_like(self.delta[layer])
            self.place.split(step)[:, :, index] = self.place.split(self.delta[layer])[:, :, index]
            return value + t * step

        return self._metric(self.base.expand(len(nodes), -1), {layer: patch})

    def derivatives(self, layer: int, index: int, node: float, order: int = 2) -> Derivatives:
        """f, f', f'' at `node`; the steps shrink until the differences are sure of themselves.

        order 0: f alone.
        """
        if order == 0:
            (f,) = self.f(layer, index, [node]).tolist()
            return Derivatives((f,), (rounding(f),))
        best: Derivatives | None = None
        for shrink in SHRINK:
            steps = [shrink * h for h in STEPS]
            nodes = [node, *(node + sign * h for h in steps for sign in (1, -1))]
            f, *beside = self.f(layer, index, nodes).tolist()
            tried = differences(f, list(zip(beside[::2], beside[1::2], strict=True)), steps)
            best = tried if best is None else best.better(tried)
            if best.unsure <= SURE:
                break
        assert best is not None
        return best


def rounding(f: float) -> float:
    """What float64 leaves of f: a few units in its last place."""
    return 8 * torch.finfo(torch.float64).eps * max(1.0, abs(f))


def differences(
    f: float, beside: Sequence[tuple[float, float]], steps: Sequence[float]
) -> Derivatives:
    """Central differences at steps h, h/2, h/4, ..., extrapolated (Richardson)."""
    noise = rounding(f)
    pairs = list(zip(steps, beside, strict=True))
    first = extrapolate([(up - down) / (2 * h) for h, (up, down) in pairs], noise / steps[-1])
    second = extrapolate(
        [(up - 2 * f + down) / h**2 for h, (up, down) in pairs], 4 * noise / steps[-1] ** 2
    )
    return Derivatives((f, first[0], second[0]), (noise, first[1], second[1]))


def extrapolate(estimates: Sequence[float], noise: float) -> tuple[float, float]:
    """The limit of estimates whose error is a series in h^2, and how far off it may be.

    The error is judged by the spread of the first extrapolations: near a kink of the path (or
    where the choice of experts changes) they do not converge, and it stays large.
    """
    column, power, spread = list(estimates), 1, 0.0
    while len(column) > 1:
        power *= 4
        column = [(power * b - a) / (power - 1) for a, b in itertools.pairwise(column)]
        spread = spread or max(column) - min(column)
    return column[0], noise + spread
