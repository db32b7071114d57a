"""Is a function of the logits a metric? Asked at the unpatched run's logits, before it is used."""

from __future__ import annotations

import torch

from hvp_patching.paths.metric import MetricError, Readout

STEP = 1e-4  # of finite differences, in logits
AGREEMENT = 1e-3  # of autograd with them, relative: the next order stays far below
ROUNDING = 1e-6  # what rounding leaves of a difference of slopes, relative to these


def sensitivity(readout: Readout, logits: torch.Tensor) -> float:
    """Σ |∂m/∂logit| at logits [vocabulary], float64, for a metric that is proven on the way.

    MetricError unless m is one finite scalar with a gradient that is not zero, can be
    differentiated twice, and has the derivatives that finite differences along one direction see;
    a part that was detached, or rounded, shows there.
    """
    probe = torch.Generator().manual_seed(0)
    v = torch.randn(logits.shape, generator=probe, dtype=torch.float64).to(logits.device)
    v = v.where(logits.isfinite(), 0.0)
    _, gradient, bend = _twice(readout, logits, v)
    beside = [_twice(readout, logits + sign * STEP * v, v) for sign in (1, -1)]
    (above, slope_above), (below, slope_below) = ((float(m), float(g @ v)) for m, g, _ in beside)
    scale = float((gradient * v).norm())
    _agree(readout, "slope", float(gradient @ v), (above - below) / (2 * STEP), AGREEMENT * scale)
    seen = (slope_above - slope_below) / (2 * STEP)
    _agree(readout, "curvature", bend, seen, ROUNDING * scale)
    return float(gradient.abs().sum())


def _twice(
    readout: Readout, logits: torch.Tensor, v: torch.Tensor
) -> tuple[float, torch.Tensor, float]:
    """m, its gradient and vᵀHv."""
    x = logits.detach().clone().requires_grad_()
    with torch.enable_grad():
        m = readout.of(x[None])[0]
        if not bool(m.isfinite()):
            raise MetricError(f"metric '{readout.name}' is {float(m)} on the unpatched run")
        if not m.requires_grad:
            raise MetricError(
                f"metric '{readout.name}' has no gradient; keep it a differentiable function of "
                "the logits (no detach, item or argmax)"
            )
        try:
            (gradient,) = torch.autograd.grad(m, x, create_graph=True, materialize_grads=True)
            bend = torch.zeros_like(x)
            if gradient.requires_grad:
                (bend,) = torch.autograd.grad(gradient @ v, x, materialize_grads=True)
        except RuntimeError as error:
            raise MetricError(
                f"metric '{readout.name}' cannot be differentiated twice: "
                f"{str(error).splitlines()[0][:200]}"
            ) from error
    gradient = gradient.detach()
    if not bool(gradient.isfinite().all()) or not bool(bend.isfinite().all()):
        raise MetricError(
            f"metric '{readout.name}' has derivatives that are not finite on the unpatched run"
        )
    if not bool(gradient.any()):
        raise MetricError(
            f"metric '{readout.name}' has a gradient of zero on the unpatched run; rounding, "
            "comparisons and clamping leave none"
        )
    return float(m.detach()), gradient, float(bend @ v)


def _agree(readout: Readout, what: str, ours: float, seen: float, floor: float) -> None:
    if abs(ours - seen) > AGREEMENT * max(abs(ours), abs(seen)) + floor:
        raise MetricError(
            f"metric '{readout.name}' has {what} {ours:.6g} by autograd and {seen:.6g} by "
            "differences on the unpatched run; it is not differentiable there, or partly detached"
        )
