"""Attributions that are not a function of the patch path's jet, by name, with their cost."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch

from hvp_patching.baselines.gim import GimInactive, gim, gim_context

Baseline = Callable[..., torch.Tensor]

# (model, pair, site="attn_heads", direction="noising") -> float64 [n_components], in nats
BASELINES: MappingProxyType[str, Baseline] = MappingProxyType({"gim": gim})
BASELINES_VERSION = 1  # part of every store key: raise it when estimates change beyond rounding
# nominal backward passes per component and prompt
COSTS: MappingProxyType[str, int] = MappingProxyType({"gim": 1})

__all__ = [
    "BASELINES",
    "BASELINES_VERSION",
    "COSTS",
    "Baseline",
    "GimInactive",
    "gim",
    "gim_context",
]
