"""A run of one prompt that can be patched, and the metric read off its last position."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import DynamicCache

from hvp_patching.failures import architecture
from hvp_patching.paths.metric import Readout
from hvp_patching.paths.precision import keep_precision
from hvp_patching.sites import Hook, Place, Site, n_layers, run_model


@dataclass(frozen=True)
class BaseRun:
    """The unpatched run, cut at the first changed token.

    model: TransformerBridge in eval mode; site: where it was recorded, a site or some hooks;
    suffix: token ids [1, n_suffix]; prefix: key–value cache of the tokens before, or None; start:
    the position of the suffix's first token; delta: per hook of the site (one a layer), a' − a
    [1, n_suffix, ...]; base: per hook a itself; metric: what reads m off the logits; value: m of
    the run itself, which every computation meets at t = 0 within `slack`; prompt: its name in
    messages; to_zero: a' = 0, so δ = −a; other: the whole other run's token ids [1, n_pos], and
    other_value its m, NaN where it has none.
    """

    model: Any
    site: Place
    suffix: torch.Tensor
    prefix: DynamicCache | None
    start: int
    delta: tuple[torch.Tensor, ...]
    base: tuple[torch.Tensor, ...]
    metric: Readout
    value: float
    slack: float
    prompt: str
    to_zero: bool = False
    other: torch.Tensor | None = None
    other_value: float = math.nan

    @property
    def names(self) -> tuple[str, ...]:
        """The recorded hooks, in the order of `delta` and `base`."""
        return self.site.names(n_layers(self.model))

    @property
    def n_pos(self) -> int:
        """Number of positions of the prompt."""
        return self.start + int(self.suffix.shape[1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of components per layer of a run at a site."""
        if not isinstance(self.site, Site):
            raise TypeError(f"{self.site.label} has no components; the patches say what they are")
        return tuple(self.site.n_components(d) for d in self.delta)

    def prefix_copy(self) -> DynamicCache | None:
        """A private copy of the prefix cache: a run appends its own keys and values to it."""
        return copy.deepcopy(self.prefix)

    def logits(self, hooks: list[tuple[str, Hook]], prefix: DynamicCache | None) -> Any:
        """Last-position logits of the suffix under `hooks`: whatever the hooks put in comes out."""
        with keep_precision(self.model.cfg.dtype):
            return run_model(self.model, self.suffix, hooks, **cache_options(prefix))

    def repeated(self, n_rows: int) -> BaseRun:
        """The same run with every forward pass in `n_rows` rows; δ keeps its single row."""
        prefix = self.prefix_copy()
        if prefix is not None:
            prefix.batch_repeat_interleave(n_rows)
        return replace(self, suffix=self.suffix.expand(n_rows, -1), prefix=prefix)

    def beside_other(self, n_rows: int) -> BaseRun:
        """The same run in `n_rows` rows, and the other run, unpatched too, in one more.

        ValueError under zero corruption, which has no other run.
        """
        if self.other is None:
            raise ValueError(f"{self.prompt} has no corrupted run under zero corruption")
        rows = self.repeated(n_rows + 1)
        suffix = torch.cat([rows.suffix[:n_rows], self.other[:, self.start :]])
        return replace(rows, suffix=suffix)

    def is_met(self, f: torch.Tensor) -> bool:
        """Whether values of m at t = 0 are the unpatched run's own; NaN is not."""
        return bool(((f.double() - self.value).abs() <= self.slack).all())


def cache_options(prefix: DynamicCache | None) -> dict[str, Any]:
    """Arguments of the model that make it continue after `prefix`."""
    return {"use_cache": False} if prefix is None else {"past_key_values": prefix}


def check_met(run: BaseRun, f: torch.Tensor, what: str) -> None:
    """ValueError unless `what` gives the unpatched run's own m at t = 0."""
    if not run.is_met(f):
        off = f.flatten()[(f.double() - run.value).abs().nan_to_num(torch.inf).argmax()]
        raise ValueError(
            f"{what} gives f(0) = {float(off):.6f} on {run.prompt} where the unpatched run of "
            f"{architecture(run.model)} gives {run.value:.6f}"
        )
