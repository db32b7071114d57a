"""Spectra of the residual stream's Hessian, and how well they know q (rule compute_spectrum)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from hvp_patching.cache import PromptKey, Store, prompt_fields, remember
from hvp_patching.checking import Subject
from hvp_patching.frames import SPECTRA
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.paths.metric import LOGPROB
from hvp_patching.paths.spectrum import NEURONS, SPECTRUM_VERSION, STREAM, residual_spectrum
from hvp_patching.sites import get_site, layer_sizes, n_layers, sample_components
from hvp_patching.store import Entry

CLOSE = 0.1  # of |q|: how near counts as known


@dataclass(frozen=True)
class SpectrumKey(PromptKey):
    """Everything that one prompt's spectrum behind a layer depends on; neurons: how many."""

    layer: int
    rank: int
    neurons: int
    seed: int
    version: int = SPECTRUM_VERSION


def measure_spectrum(
    measurement: Measurement,
    store: Store,
    depths: Sequence[float],
    rank: int,
    neurons: int,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame `spectra`: eigenvalues behind some layers, and what each rank knows of q.

    depths: fractions of the layers; neurons: sampled of each of these layers. ValueError as in
    residual_spectrum.
    """
    m = measurement
    layers = layers_at(depths, n_layers(m.model))
    sampled = sample_components(layer_sizes(m.model, get_site(NEURONS)), neurons, seed)

    def measure(subject: Subject) -> pd.DataFrame:
        fields = prompt_fields(m.model, subject.tokens, STREAM, m.direction, LOGPROB)
        keys: dict[str, PromptKey] = {
            str(layer): SpectrumKey(**fields, layer=layer, rank=rank, neurons=neurons, seed=seed)
            for layer in layers
        }

        def compute(missing: Sequence[str]) -> dict[str, Entry]:
            return {name: computed(int(name)) for name in missing}

        def computed(layer: int) -> Entry:
            own = [index for at, index in sampled if at == layer]
            found = residual_spectrum(m.model, subject.tokens, layer, rank, own, m.direction, seed)
            logging.info("layer %d: %d products of %d rows", layer, found.products, found.size)
            m.advance(1 / len(layers))
            return {
                "eigenvalues": found.eigenvalues,
                "norm": torch.tensor([found.norm], dtype=torch.float64),
                "q": found.q,
                "q_by_rank": found.q_by_rank,
                "size": torch.tensor([found.size]),
            }

        entries, _ = remember(store, keys, m.model, compute)
        frames = [_rows(entry).assign(layer=int(name)) for name, entry in entries.items()]
        return pd.concat(frames, ignore_index=True)

    return SPECTRA.check(m.table(measure))


def layers_at(depths: Sequence[float], n: int) -> list[int]:
    """The layers at fractions of the depth, each once."""
    return list(dict.fromkeys(min(n - 1, int(depth * n)) for depth in depths))


def _rows(entry: Entry) -> pd.DataFrame:
    """One row a rank."""
    values, q, by_rank = entry["eigenvalues"], entry["q"], entry["q_by_rank"]
    off = (by_rank - q).abs()
    return pd.DataFrame(
        {
            "rank": range(1, len(values) + 1),
            "eigenvalue": values.numpy(),
            "mass": (values.square().cumsum(0) / entry["norm"].square()).numpy(),
            "covered": (off <= CLOSE * q.abs()).double().mean(1).numpy(),
            "q_error": (off.sum(1) / q.abs().sum()).numpy(),
            "n_rows": int(entry["size"]),
        }
    )
