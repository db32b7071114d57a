"""The tape of a base run: its non-linear operations in order, met again by the tangents.

A pass over the base run alone is recorded; reverse mode turns each recorded output into its
adjoint; a pass over tangents meets the same operations in the same order and contracts each
one's second derivative at once. Everything that differs between the two passes is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

    def base(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The zeroth coefficient of a matrix product."""
        return compute()


class Recording(Tape):
    """The taps of a pass over the base run alone, with the graph that reverse mode needs.

    matrices: what its matrix products give, which the tangents need not compute again.
    """

    records = True

    def __init__(self) -> None:
        super().__init__()
        self.taps: list[Tap] = []
        self.matrices: list[torch.Tensor] = []

    def base(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        found = compute()
        self.matrices.append(found.detach())
        return found

    def meet(self, primitive: str, output: torch.Tensor, *operands: Any) -> None:
        super().meet(primitive, output)
        self.taps.append(Tap(f"{self.operation}/{primitive}", output))


class Contracting(Tape):
    """Σ ⟨adjoint, second derivative⟩ of every row that the tangents carry.

    adjoints: of the taps' outputs; None for an output that the metric does not depend on. matrices:
    what the base run's matrix products gave, which are not computed a second time.
    """

    def __init__(
        self,
        taps: Sequence[Tap],
        adjoints: Sequence[torch.Tensor | None],
        matrices: Sequence[torch.Tensor],
    ) -> None:
        super().__init__()
        self.taps, self.adjoints, self.matrices = taps, adjoints, iter(matrices)
        self.parts: dict[int, list[torch.Tensor]] = {}  # by their number of rows

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
            part = SECOND[primitive](adjoint, *operands)
            self.parts.setdefault(len(part), []).append(part)

    def base(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        found = next(self.matrices, None)
        if found is None:
            raise UnsupportedOperation("the tangents meet a matrix that the base run does not have")
        return found

    def finished(self, rows: int, device: torch.device) -> torch.Tensor:
        """The sums of all rows, float64 [rows]; UnsupportedOperation where operations are missing.

        Rows join on the way, behind those that are there, and an operand may lack the last ones.
        """
        if self.met != len(self.taps) or next(self.matrices, None) is not None:
            raise UnsupportedOperation(
                f"the tangents meet {self.met} non-linear operations, the base run {len(self.taps)}"
            )
        total = torch.zeros(rows, dtype=torch.float64, device=device)
        for length, parts in self.parts.items():
            total[:length] += torch.stack(parts).sum(0, dtype=torch.float64)
        return total


def meet(primitive: str, output: torch.Tensor, *operands: Any) -> None:
    """Tell the tape, if one is running, of a non-linear operation (see SECOND)."""
    tape = TAPE.get()
    if tape is not None:
        tape.meet(primitive, output, *operands)


def contracts() -> bool:
    """Whether a tape is running that wants second derivatives."""
    return isinstance(TAPE.get(), Contracting)


def of_base(compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The zeroth coefficient of a matrix product: computed, or taken from the tape that has it."""
    tape = TAPE.get()
    return compute() if tape is None else tape.base(compute)
