"""Heads behind a norm (Gemma): what attention writes when some of them are replaced.

The norm after attention takes the *sum* of the heads, so that no head has an output of its own in
the residual stream. Nothing is linearised here: a reader for whom some heads are corrupted sees the
norm of the sum in which these are corrupted. The changes of single heads do not add up, then.
"""

from __future__ import annotations

from typing import Any

import torch

from hvp_patching.failures import architecture
from hvp_patching.paths.precision import keep_precision, tolerance


def post_norm(model: Any, layer: int) -> Any:
    """The norm between a layer's attention and the residual stream, or None."""
    return getattr(model.blocks[layer], "ln1_post", None)


def write_changes(
    model: Any, layer: int, total: torch.Tensor, changes: torch.Tensor
) -> torch.Tensor:
    """What attention writes more when the sum of its heads changes, shaped as `changes`.

    total: the sum of the heads before the norm, [batch, n_suffix, d_model]; changes: of that sum,
    [batch, n, n_suffix, d_model].
    """
    norm = post_norm(model, layer).original_component
    with keep_precision(total.dtype):
        found: torch.Tensor = norm(total.unsqueeze(1) + changes) - norm(total).unsqueeze(1)
    return found


def check_norm(model: Any, layer: int, total: torch.Tensor, write: torch.Tensor) -> None:
    """ValueError unless what attention writes is the norm of the sum of its heads, and no more."""
    with keep_precision(total.dtype):
        off = float((post_norm(model, layer).original_component(total) - write).abs().max())
    if not off <= 100 * tolerance(write.dtype) * float(write.abs().max()):
        raise ValueError(
            f"what attention writes in layer {layer} of {architecture(model)} is not the norm of "
            f"the sum of its heads (off by {off:.2g}), so that no head can be patched alone"
        )
