"""TaylorTensor: a tensor that carries the Taylor coefficients of x(t) through a model.

Every operation the model applies arrives at `__torch_function__` and is looked up by name in the
rules of the modules beside this one. The table is strict: an operation without a rule, a call
that its rule fails on, and coefficients whose shapes do not belong together all raise
`UnsupportedOperation`; nothing falls through to the zeroth coefficient alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import torch

from hvp_patching.failures import one_line, out_of_memory

MAX_ORDER = 3

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


class Applies(Protocol):
    """What watches the rules at work, such as a tape (tape.py)."""

    def apply(self, name: str, rule: Rule, args: Sequence[Any], kwargs: Any) -> Any:
        """What the rule gives."""

    def meet(self, primitive: str, output: torch.Tensor, *operands: Any) -> None:
        """A non-linear operation has this zeroth output."""

    def base(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The zeroth coefficient of a matrix product."""


TAPE: ContextVar[Applies | None] = ContextVar("tape", default=None)


class UnsupportedOperation(ValueError):
    """Taylor mode cannot carry what the model does, or not safely; the message names it."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of the named torch operations."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def operation_name(func: Any) -> str:
    """The bare name under which an operation is looked up ('add', 'linear', 'shape', ...)."""
    try:
        name: str = func.__name__
        return func.__self__.__name__ if name == "__get__" else name
    except AttributeError:
        return str(func)


def _check_shapes(c0: torch.Tensor, higher: torch.Tensor, rows: int) -> None:
    """Coefficients belong to one tensor: one has not been broadcast without the others."""
    n, rest = higher.shape[1], higher.shape[2:]
    if n % rows or c0.shape[1:] != rest or c0.shape[0] not in (n, n // rows):
        raise UnsupportedOperation(
            f"Taylor mode cannot join coefficients {tuple(c0.shape)} and {tuple(higher.shape)} "
            f"of {rows} rows"
        )


class TaylorTensor(torch.Tensor):
    """Coefficients c_0 … c_N of x(t) = Σ c_k t^k for a batch of rows.

    Shapes: the tensor's own shape is [rows * m, ...] (m = 1 except where a model flattens
    positions into the batch); `higher` is [N, rows * m, ...] and holds c_1 … c_N; `c0` has the
    tensor's shape, or [m, ...] when `shared`, i.e. when all rows have the same zeroth
    coefficient, as at t = 0, where it is the unpatched run.

    Fewer rows stand for more: where a tensor with fewer rows meets one with more, the missing
    rows are the unpatched run, which is row 0 (its higher coefficients are zero).
    """

    c0: torch.Tensor
    higher: torch.Tensor
    rows: int
    shared: bool

    @staticmethod
    def __new__(cls, c0: torch.Tensor, higher: torch.Tensor, rows: int) -> TaylorTensor:
        shape = higher.shape[1:]
        _check_shapes(c0, higher, rows)
        self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=c0.dtype, device=c0.device)
        self.c0 = c0
        self.higher = higher
        self.rows = rows
        # Unshared tensors hold row 0 besides the patched ones, so a single row is a shared one.
        self.shared = rows == 1 or c0.shape[0] != shape[0]
        return self

    @property
    def order(self) -> int:
        """Highest power of t that is carried."""
        return self.higher.shape[0]

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = operation_name(func)
        if name in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if name not in RULES:
            raise UnsupportedOperation(f"Taylor mode has no rule for the operation '{name}'")
        tape = TAPE.get()
        try:
            if tape is None:
                return RULES[name](*args, **(kwargs or {}))
            return tape.apply(name, RULES[name], args, kwargs or {})
        except Exception as error:  # such as arguments or shapes that the rule does not take
            if isinstance(error, UnsupportedOperation) or out_of_memory(error):
                raise
            raise UnsupportedOperation(
                f"Taylor mode's rule for '{name}' does not cover this call: {one_line(error)}"
            ) from error

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operation_name(func).split(".")[0] in {"detach", "alias"}:  # asked by Tensor.__repr__
            return args[0]
        raise UnsupportedOperation(f"Taylor mode was bypassed by the operation '{func}'")

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"TaylorTensor(shape={tuple(self.shape)}, order={self.order}, rows={self.rows})"


# Read from the wrapper itself: they say what the tensor is, not what it holds.
METADATA = frozenset(
    """
    shape size dtype device ndim dim numel nelement layout names is_cuda is_mps is_cpu is_meta
    is_xpu is_sparse is_quantized is_nested is_contiguous is_floating_point is_complex is_signed
    is_leaf is_inference requires_grad grad_fn element_size itemsize get_device __len__ __hash__
    """.split()  # noqa: SIM905 (a table of names)
)
