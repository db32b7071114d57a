"""The metric m: what is read off the last position's logits, and how it is differentiated.

The built-in metrics run on plain tensors and on TaylorTensors. Any other function of the logits
is composed with their polynomial by autograd in one scalar, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from hvp_patching.failures import one_line, out_of_memory
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.prompts.checks import check_ids
from hvp_patching.prompts.pair import PromptError, TokenPair, label, vocabulary_size
from hvp_patching.prompts.texts import token_set

LOGPROB, LOGIT_DIFFERENCE = "logprob", "logit_difference"


class MetricError(ValueError):
    """A metric that is no differentiable scalar of the logits; one line names it."""


@dataclass(frozen=True)
class Readout:
    """A metric made ready for one prompt.

    of: float64 logits [rows, vocabulary] -> m of every row; polynomial: whether `of` takes
    TaylorTensors too; identity: what names the metric in store keys, None where nothing does;
    foil_ids: the foils that it reads.
    """

    name: str
    of: Callable[[Any], Any]
    polynomial: bool = True
    identity: str | None = None
    foil_ids: tuple[int, ...] = ()

    def __call__(self, logits: Any) -> Any:
        """m of every row from logits [rows, 1, vocabulary]: a tensor, or a TaylorTensor.

        In float64: float32 would lose two to three digits of the derivatives in the cancellation
        between target and normaliser.
        """
        return self.of(logits[:, -1, :].to(torch.float64))


@dataclass(frozen=True)
class LogProbability:
    """Log of the target set's probability at the last position, in nats: the paper's metric."""

    def readout(self, model: Any, tokens: TokenPair) -> Readout:
        """The metric on one checked pair."""
        targets = _ids(model, tokens.target_ids)
        return Readout(LOGPROB, lambda last: log_probability(last, targets), identity=LOGPROB)


@dataclass(frozen=True)
class LogitDifference:
    """Log-sum-exp of the targets' logits minus that of the foils'; single tokens: l_t − l_f."""

    foil: Any = None

    def readout(self, model: Any, tokens: TokenPair) -> Readout:
        """The metric on one checked pair; PromptError where there is no usable foil."""
        foil_ids = tokens.foil_ids
        if self.foil is not None:
            foil_ids = token_set(model, tokens, "foil", self.foil)
            check_ids(replace(tokens, foil_ids=foil_ids), vocabulary_size(model))
        if not foil_ids:
            raise PromptError(
                f"{label(tokens)}: {LOGIT_DIFFERENCE} needs a foil and the pair has none; give "
                "PromptPair(foil=' John') or logit_difference(' John')"
            )
        targets, foils = _ids(model, tokens.target_ids), _ids(model, foil_ids)

        def difference(last: Any) -> Any:
            return torch.logsumexp(last[:, targets], -1) - torch.logsumexp(last[:, foils], -1)

        return Readout(
            LOGIT_DIFFERENCE,
            difference,
            identity=LOGIT_DIFFERENCE,
            foil_ids=tuple(sorted(foil_ids)),
        )


@dataclass(frozen=True)
class Metric:
    """A metric of your own: a function of the last position's logits, float64 [vocabulary].

    It returns one scalar and is differentiable in torch. Results can be stored where it has a
    `name`; raise `version` when the function changes, since a key cannot see its code.
    """

    function: Callable[[torch.Tensor], torch.Tensor]
    name: str = ""
    version: str | int = 1

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise MetricError(f"a metric is a function of the logits, not {self.function!r}")

    @property
    def label(self) -> str:
        """How messages name the metric."""
        return self.name or getattr(self.function, "__name__", repr(self.function))

    def readout(self, model: Any, tokens: TokenPair) -> Readout:
        """The metric on any pair."""
        identity = f"own metric {self.name}, version {self.version}" if self.name else None
        return Readout(self.label, self._rows, polynomial=False, identity=identity)

    def _rows(self, last: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.value(row) for row in last])

    def value(self, logits: torch.Tensor) -> torch.Tensor:
        """The function on one row, float64 []; MetricError where that is no scalar."""
        try:
            with DecomposedLayerNorm():
                m = self.function(logits)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise MetricError(
                f"metric '{self.label}' fails on logits [{len(logits)}]: {one_line(error)}"
            ) from error
        if not isinstance(m, torch.Tensor):
            raise MetricError(
                f"metric '{self.label}' returns a {type(m).__name__}; return a torch scalar "
                "computed from the logits"
            )
        if m.ndim:
            raise MetricError(
                f"metric '{self.label}' returns shape {tuple(m.shape)}; return one scalar, shape ()"
            )
        if m.dtype != torch.float64:
            raise MetricError(
                f"metric '{self.label}' returns {m.dtype}; keep the float64 of the logits"
            )
        return m


AnyMetric = str | LogProbability | LogitDifference | Metric | Callable[[torch.Tensor], torch.Tensor]


def logit_difference(foil: Any = None) -> LogitDifference:
    """The metric 'logit of the target − logit of the foil'; sets are joined by log-sum-exp.

    foil: a token's text, its id, or several of them; None for the pair's own. PromptError, when it
    is used, for a foil that is not one token, that is a target too, or that is missing.
    """
    return LogitDifference(foil)


def as_metric(metric: AnyMetric) -> LogProbability | LogitDifference | Metric:
    """The metric meant by a name, a metric or a function; ValueError for anything else."""
    if isinstance(metric, LogProbability | LogitDifference | Metric):
        return metric
    if metric == LOGPROB:
        return LogProbability()
    if metric == LOGIT_DIFFERENCE:
        return LogitDifference()
    given: Any = metric
    if given is logit_difference:  # the function itself: the pair's own foil
        return LogitDifference()
    if callable(metric):
        return Metric(metric)
    raise ValueError(
        f"unknown metric {metric!r}; choose '{LOGPROB}', logit_difference(foil) or a function from "
        "the last position's logits to one scalar"
    )


def log_probability(last: Any, target_ids: torch.Tensor) -> Any:
    """Log of the target set's probability; last: logits [rows, vocabulary]."""
    normaliser = torch.logsumexp(last, -1)
    return torch.logsumexp(last[:, target_ids], -1) - normaliser


def derivatives(m: torch.Tensor, t: torch.Tensor, order: int) -> list[torch.Tensor]:
    """m and its derivatives in t; rows do not mix, so that the gradient of the sum is theirs.

    m: [n_rows]; t: one number per row, in any shape, with a gradient.
    """
    found = [m]
    for k in range(1, order + 1):
        if not found[-1].requires_grad:
            if k == 1:
                raise MetricError("the metric of a patched run has no gradient")
            found.append(torch.zeros_like(m))  # a straight line
            continue
        (grad,) = torch.autograd.grad(
            found[-1].sum(), t, create_graph=k < order, allow_unused=k > 1, materialize_grads=k > 1
        )
        found.append(grad.flatten())
    return found


def composed(readout: Readout, c0: torch.Tensor, higher: torch.Tensor) -> torch.Tensor:
    """Taylor coefficients of m along polynomials of logits, float64 [n_rows, order + 1].

    c0: [n_rows or 1, 1, vocabulary]; higher: [order, n_rows, 1, vocabulary]. Exact: the truncated
    polynomial has the path's derivatives up to `order`, and so has m along it.
    """
    order, rows = higher.shape[:2]
    coefficients = torch.cat([c0.expand(1, rows, *c0.shape[1:]), higher])[:, :, -1].double()
    factorials = [math.factorial(k) for k in range(order + 1)]
    parts = []
    for row in range(rows):
        s = torch.zeros((), dtype=torch.float64, device=c0.device, requires_grad=order > 0)
        with torch.enable_grad():
            along = coefficients[order, row]
            for c in coefficients[:order, row].flip(0):
                along = c + s * along
            m = readout.of(along[None])
            found = derivatives(m, s, order)
        parts.append(torch.cat([d.detach() / n for d, n in zip(found, factorials, strict=True)]))
    return torch.stack(parts)


def _ids(model: Any, ids: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(ids, device=next(model.parameters()).device)
