"""The tape of a base run: its non-linear operations in order, met again by the tangents.

A pass over the base run alone is recorded; reverse mode turns each recorded output into its
adjoint; a pass over tangents meets the same operations in the same order and contracts each
one's second derivative at once. Everything that differs between the two passes is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hvp_patching.paths.taylor.curvature import CURVED, LINEAR, SECOND
from hvp_patching.paths.taylor.tensor import TAPE, Rule, UnsupportedOperation


@dataclass(frozen=True)
class Tap:
    """The output of a non-linear operation in the base run; name: 'operation/primitive'."""

    name: str
    output: torch.Tensor


class Tape:
    """Applies rules, and knows which operation of the model a primitive belongs to."""

    records = False

    def __init__(self) -> None:
        self.operation = ""
        self.met = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Rules that bend meet this tape inside."""
        token = TAPE.set(self)
        try:
            yield
        finally:
            TAPE.reset(token)

    def apply(self, name: str, rule: Rule, args: Sequence[Any], kwargs: Any) -> Any:
        """What the rule gives, if its curvature is known and was met where there is any.

        UnsupportedOperation otherwise: such an operation would contribute nothing, unseen.
        """
        if name not in LINEAR and name not in CURVED:
            raise UnsupportedOperation(f"no second derivative is declared for '{name}'")
        outer, self.operation = self.operation, name
        before = self.met
        with torch.set_grad_enabled(self.records):
            result = rule(*args, **kwargs)
        self.operation = outer
        bends = name in CURVED and CURVED[name](*args, **kwargs)
        if bends != (self.met > before):
            raise UnsupportedOperation(
                f"the rule for '{name}' {'hides its' if bends else 'has an undeclared'} curvature"
            )
        return result

    def meet(self, primitive: str, output: torch.Tensor, *operands: Any) -> None:
        """Called by every rule that bends, with its zeroth output and what SECOND takes."""
        self.met += 1


class Recording(Tape):
    """The taps of a pass over the base run alone, with the graph that reverse mode needs."""

    records = True

    def __init__(self) -> None:
        super().__init__()
        self.taps: list[Tap] = []

    def meet(self, primitive: str, output: torch.Tensor, *operands: Any) -> None:
        super().meet(primitive, output)
        self.taps.append(Tap(f"{self.operation}/{primitive}", output))


class Contracting(Tape):
    """Σ ⟨adjoint, second derivative⟩ of every row that the tangents carry, float64 [rows].

    adjoints: of the taps' outputs; None for an output that the metric does not depend on.
    """

    def __init__(self, taps: Sequence[Tap], adjoints: Sequence[torch.Tensor | None]) -> None:
        super().__init__()
        self.taps, self.adjoints = taps, adjoints
        self.total = torch.zeros(0, dtype=torch.float64)

    def meet(self, primitive: str, output: torch.Tensor, *operands: Any) -> None:
        name, number = f"{self.operation}/{primitive}", self.met
        super().meet(primitive, output)
        tap = self.taps[number] if number < len(self.taps) else None
        if tap is None or tap.name != name or tap.output.shape != output.shape:
            expected = "none" if tap is None else f"{tap.name} {tuple(tap.output.shape)}"
            raise UnsupportedOperation(
                f"the tangents meet {name} {tuple(output.shape)} where the base run has {expected}"
            )
        adjoint = self.adjoints[number]
        if adjoint is not None:
            self._add(SECOND[primitive](adjoint, *operands))

    def _add(self, contribution: torch.Tensor) -> None:
        """Rows join on the way, behind those that are there; an operand may lack the last ones."""
        missing = len(contribution) - len(self.total)
        if missing > 0:
            new = contribution.new_zeros(missing, dtype=torch.float64)
            self.total = torch.cat([self.total.to(new.device), new])
        self.total[: len(contribution)] += contribution

    def finished(self, rows: int) -> torch.Tensor:
        """The sums of `rows` rows; UnsupportedOperation where operations were left out."""
        if self.met != len(self.taps):
            raise UnsupportedOperation(
                f"the tangents meet {self.met} non-linear operations, the base run {len(self.taps)}"
            )
        self._add(torch.zeros(rows, dtype=torch.float64, device=self.total.device))
        return self.total


def meet(primitive: str, output: torch.Tensor, *operands: Any) -> None:
    """Tell the tape, if one is running, of a non-linear operation (see SECOND)."""
    tape = TAPE.get()
    if tape is not None:
        tape.meet(primitive, output, *operands)
