"""Attributions that are not a function of the patch path's jet, by name, with their cost."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import torch

from hvp_patching.baselines.atp_star import atp_star
from hvp_patching.baselines.atp_star_qkv import atp_star_qkv
from hvp_patching.baselines.gauss_newton import gauss_newton
from hvp_patching.baselines.gim import GimInactive, gim, gim_context
from hvp_patching.baselines.local_curvature import local_curvature
from hvp_patching.baselines.local_curvature_unweighted import local_curvature_unweighted
from hvp_patching.sites import n_layers

Baseline = Callable[..., torch.Tensor]


def one_pass(model: Any) -> int:
    """Cost of a baseline whose estimates all come from one reverse pass."""
    return 1


def two_passes(model: Any) -> int:
    """Cost of a baseline that adds a product with a second-order matrix, as HVP does."""
    return 2


# (model, pair, site="attn_heads", direction="noising", *, metric="logprob")
# -> float64 [n_components], in the metric's units (nats)
BASELINES: MappingProxyType[str, Baseline] = MappingProxyType(
    {
        "gim": gim,
        "atp_star": atp_star,
        "atp_star_qkv": atp_star_qkv,
        "local_curvature": local_curvature,
        "local_curvature_unweighted": local_curvature_unweighted,
        "gauss_newton": gauss_newton,
    }
)
BASELINES_VERSION = 1  # part of every store key: raise it when estimates change beyond rounding
# model -> nominal backward passes per component and prompt; GradDrop has one per dropped layer
COSTS: MappingProxyType[str, Callable[[Any], int]] = MappingProxyType(
    {
        "gim": one_pass,
        "atp_star": n_layers,
        "atp_star_qkv": n_layers,
        "local_curvature": one_pass,
        "local_curvature_unweighted": one_pass,
        "gauss_newton": two_passes,
    }
)

__all__ = [
    "BASELINES",
    "BASELINES_VERSION",
    "COSTS",
    "Baseline",
    "GimInactive",
    "atp_star",
    "atp_star_qkv",
    "gauss_newton",
    "gim",
    "gim_context",
    "local_curvature",
    "local_curvature_unweighted",
]
