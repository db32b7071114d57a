"""The adjoints of the unpatched run: one reverse pass that the tangents of all rows share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hvp_patching.paths.metric import Readout
from hvp_patching.paths.run import BaseRun, check_met
from hvp_patching.paths.taylor import TaylorTensor, UnsupportedOperation
from hvp_patching.paths.taylor.tape import Contracting, Recording, Tap
from hvp_patching.paths.taylor.watch import Watching, frozen
from hvp_patching.sites import Hook


@dataclass(frozen=True)
class Taped:
    """Non-linear operations of a base run, ∂m/∂(their outputs), and its matrix products."""

    taps: Sequence[Tap]
    adjoints: Sequence[torch.Tensor | None]
    matrices: Sequence[torch.Tensor]

    def contracting(self) -> Contracting:
        """A tape for one pass of tangents."""
        return Contracting(self.taps, self.adjoints, self.matrices)


@dataclass(frozen=True)
class Adjoints:
    """What one reverse pass of the unpatched run gives.

    model, metric: the operations up to the logits, and those of the metric behind them (none for a
    function of one's own); sites: ∂m/∂activation at every hook, [1, n_suffix, ...].
    """

    model: Taped
    metric: Taped
    sites: dict[str, torch.Tensor]


def adjoints(run: BaseRun, hooks: Iterable[str]) -> Adjoints:
    """Run and differentiate once; what does not depend on the hooks is no part of the tape.

    The run changes at the very hooks at which the tangents will join, so that both meet the same
    operations. ValueError where it does not give the unpatched run's value.
    """
    tape = Watching()
    sites: dict[str, torch.Tensor] = {}
    with frozen(run.model), torch.enable_grad(), tape:
        logits = run.logits([(name, _tracked(name, sites)) for name in hooks], run.prefix_copy())
    if len(logits) != 1 or not logits.requires_grad:
        raise UnsupportedOperation("the tangent backend loses its way through the unpatched run")
    m, slope, metric = _metric_adjoints(run.metric, logits)
    check_met(run, m, "the tangent backend's reverse pass")
    outputs = [tap.output for tap in tape.taps]
    found = torch.autograd.grad(logits, [*sites.values(), *outputs], slope, allow_unused=True)
    at_sites = [_or_zeros(g, a) for g, a in zip(found, sites.values(), strict=False)]
    return Adjoints(
        Taped(_detached(tape.taps), found[len(sites) :], tape.matrices),
        metric,
        dict(zip(sites, at_sites, strict=True)),
    )


def _tracked(name: str, sites: dict[str, torch.Tensor]) -> Hook:
    """A hook from which on the run is recorded, and at which its gradient is wanted."""

    def hook(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        if activation.requires_grad:
            sites[name] = activation.view_as(activation)
        else:
            sites[name] = activation.detach().clone().requires_grad_()
        return sites[name]

    return hook


def _alone(c0: torch.Tensor) -> TaylorTensor:
    """The unpatched run as the only row, without higher coefficients."""
    return TaylorTensor(c0, c0.new_zeros(0, *c0.shape), 1)


def _metric_adjoints(
    metric: Readout, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Taped]:
    """m, ∂m/∂logits and the tape of the metric, at logits [1, 1, vocabulary]."""
    at = logits.detach().clone().requires_grad_()
    if not metric.polynomial:
        with torch.enable_grad():
            m = metric(at)
        (slope,) = torch.autograd.grad(m.sum(), at)
        return m.detach(), slope, Taped([], [], [])
    tape = Recording()
    with tape.running():
        m = metric(_alone(at)).c0
    outputs = [tap.output for tap in tape.taps]
    slope, *found = torch.autograd.grad(m.sum(), [at, *outputs], allow_unused=True)
    return m.detach(), slope, Taped(_detached(tape.taps), found, tape.matrices)


def _detached(taps: Iterable[Tap]) -> list[Tap]:
    return [Tap(tap.name, tap.output.detach()) for tap in taps]


def _or_zeros(gradient: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
