"""What every rule that runs a model shares: its prompts, one by one, and how it measures them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from hvp_patching.checking import Check, Exact, Subject
from hvp_patching.models import load_model
from hvp_patching.models.identity import shared_identities
from hvp_patching.paths.base_run import shared_base_runs
from hvp_patching.paths.rows import DEFAULT_MEMORY, Progress, no_progress
from hvp_patching.prompts import read_prompts
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.sites import Component, get_site, layer_sizes, sample_components


@dataclass
class Measurement:
    """The prompts of one setting, the model that measures them, and how.

    load: gives the model in a named dtype, on the device it is given or its own. memory: bytes
    that the rows of one pass may take. check: looks at the results again. progress: called with
    the prompts, or the fraction of one, that were done since its last call.
    """

    load: Callable[..., Any]
    prompts: Sequence[TokenPair]
    site: str = "attn_heads"
    dtype: str = "float32"
    direction: str = "noising"
    backend: str = "auto"
    memory: int = DEFAULT_MEMORY
    check: Check = field(default_factory=partial(Check, "off"))
    progress: Progress = no_progress
    done: float = field(default=0.0, init=False)  # prompts that progress heard of

    @classmethod
    def of_files(
        cls, model: str, folder: Path, device: str, prompts: str, **options: Any
    ) -> Measurement:
        """A prepared model of the registry in `folder`, and prompts that were built for it.

        Options are the fields. Errors as in load_model and read_prompts.
        """
        load = partial(load_model, model, device=device, folder=folder)
        return cls(load, read_prompts(prompts), **options)

    @cached_property
    def model(self) -> Any:
        """The model in `dtype`, loaded when it is first asked for."""
        return self.load(self.dtype)

    def each(self) -> Iterator[Subject]:
        """Every prompt in turn, as what is measured and checked; runs and identity are shared."""
        exact = Exact(self.model, self.load)
        for number, tokens in enumerate(self.prompts, 1):
            logging.info("%s (%d of %d)", tokens.prompt_id, number, len(self.prompts))
            how = (self.site, self.direction, self.backend, self.memory)
            with shared_base_runs(), shared_identities():
                yield Subject(self.model, exact, tokens, *how)
            self.advance(number - self.done)

    def table(self, measure: Callable[[Subject], pd.DataFrame]) -> pd.DataFrame:
        """One table of the rows that `measure` gives for every prompt, with its id in front."""
        frames = [
            frame if "prompt_id" in frame else frame.assign(prompt_id=subject.tokens.prompt_id)
            for subject in self.each()
            for frame in [measure(subject)]
        ]
        found = pd.concat(frames, ignore_index=True)
        return found[["prompt_id", *found.columns.drop("prompt_id")]]

    def advance(self, step: float) -> None:
        """Report that so much more of a prompt is done."""
        self.done += step
        self.progress(step)

    def sample(self, per_layer: int | None, seed: int | None) -> tuple[Component, ...] | None:
        """Seeded components of every layer; None, which stands for all, without `per_layer`."""
        if per_layer is None:
            return None
        return sample_components(layer_sizes(self.model, get_site(self.site)), per_layer, seed or 0)
