"""What is checked: a prompt, the model that a rule measured it with, and the same in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from hvp_patching.checking.check import CannotCheck
from hvp_patching.checking.plain import PlainPaths, Unhooked
from hvp_patching.paths.rows import DEFAULT_MEMORY
from hvp_patching.prompts.pair import TokenPair, label

TF32_EPSILON = 2.0**-10
# Measured, see docs/trust.md: in units of the precision's epsilon times the size of what is
# computed, rounding stays below a tenth of this on every model and site tried.
ROUNDING = 100.0


class Exact:
    """A float64 model, loaded when it is first asked for; the measured one where it is that.

    load: gives the model in the named dtype, on the device of the measured one or the given one.
    """

    def __init__(self, model: Any, load: Callable[..., Any]) -> None:
        self._model, self._load = model, load
        self._exact: Any = model if model.cfg.dtype == torch.float64 else None

    def __call__(self) -> Any:
        """The model; CannotCheck where it does not fit into memory."""
        if self._exact is None:
            try:
                self._exact = self._load("float64")
            except (MemoryError, torch.OutOfMemoryError):
                self._exact = self._on_the_cpu()
        return self._exact

    def _on_the_cpu(self) -> Any:
        try:
            return self._load("float64", device="cpu")
        except (MemoryError, torch.OutOfMemoryError):
            raise CannotCheck("there is no memory for the model in float64") from None


@dataclass
class Subject:
    """What a rule measured on one prompt, and with what; exact gives the model in float64."""

    model: Any
    exact: Callable[[], Any]
    tokens: TokenPair
    site: str
    direction: str = "noising"
    backend: str = "auto"
    memory: int = DEFAULT_MEMORY

    @property
    def epsilon(self) -> float:
        """Relative rounding of one product in the model's precision."""
        dtype = self.model.cfg.dtype
        cuda = next(self.model.parameters()).device.type == "cuda"
        if cuda and dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
            return TF32_EPSILON
        return float(torch.finfo(dtype).eps)

    @cached_property
    def paths(self) -> PlainPaths:
        """The prompt's paths in plain float64 forward passes."""
        return self.paths_at(self.site)

    def paths_at(self, site: str) -> PlainPaths:
        """The same prompt at another site; CannotCheck for one that the oracle does not know."""
        try:
            return PlainPaths(self.exact(), self.tokens, site, self.direction)
        except Unhooked as unknown:
            raise CannotCheck(str(unknown)) from None

    @property
    def prompt(self) -> str:
        """How a message names the prompt."""
        return label(self.tokens)

    def tolerance(self, sizes: torch.Tensor) -> torch.Tensor:
        """What rounding in the model's precision may do to derivatives of these sizes."""
        return ROUNDING * self.epsilon * sizes
