"""Check of attention patterns: weighting the values by them gives the heads' outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from hvp_patching.checking.check import Check, Comparison
from hvp_patching.checking.subject import Subject
from hvp_patching.sites import Component

PRODUCTS = "the head's output in float64"


def check_attention(check: Check, subject: Subject, patterns: torch.Tensor) -> None:
    """Patterns [n_layers, n_heads, n_pos, n_pos] of one prompt's clean run; a row is a head.

    The subject is at attn_heads, noising. CheckFailed names prompt, head and position where the
    pattern, applied to the values, does not give what the head hands on.
    """
    if not check.on:
        return
    n_layers, n_heads = patterns.shape[:2]
    heads = [(layer, index) for layer in range(n_layers) for index in range(n_heads)]

    def verify(chosen: Sequence[Component]) -> Iterator[Comparison]:
        paths = subject.paths
        values = paths.read(paths.ids, "v")
        for layer, index in chosen:
            value = values[layer].cpu()
            shared = n_heads // value.shape[1]  # query heads per value head
            value = value[:, index // shared]
            weighted = patterns[layer, index].double() @ value
            output = paths.a[layer][:, index].cpu()
            worst = int((weighted - output).abs().amax(-1).argmax())
            entry = int((weighted - output)[worst].abs().argmax())
            where = f"{subject.prompt}, layer {layer}, index {index}, position {worst}"
            tolerance = float(subject.tolerance(value.abs().max()))
            ours, other = float(weighted[worst, entry]), float(output[worst, entry])
            yield Comparison(f"{where}, weighted value", PRODUCTS, ours, other, tolerance)

    check.rows(subject.prompt, heads, verify)
