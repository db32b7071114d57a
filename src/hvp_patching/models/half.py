"""A model in half precision: bfloat16, as GPU code often loads it."""

from __future__ import annotations

from typing import Any

import torch

HALF = torch.bfloat16


def halved(model: Any) -> Any:
    """The wrapped model itself, its weights rounded to bfloat16 in place.

    What is no weight keeps its precision, as in a checkpoint loaded in bfloat16: rotary frequencies
    above all, which a cast of the whole module would round.
    """
    for owner in (model, model.original_model):
        for weight in torch.nn.Module.parameters(owner):
            if weight.is_floating_point():
                weight.data = weight.data.to(HALF)
    model.cfg.dtype = HALF
    return model
