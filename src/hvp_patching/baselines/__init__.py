"""Attributions that are not a function of the patch path's jet, by name, with their cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from hvp_patching.baselines._named import Named
from hvp_patching.baselines.atp_star import atp_star
from hvp_patching.baselines.atp_star_qkv import atp_star_qkv
from hvp_patching.baselines.clean_corrupted import clean_corrupted
from hvp_patching.baselines.gauss_newton import gauss_newton
from hvp_patching.baselines.gim import GimInactive, gim, gim_context
from hvp_patching.baselines.gim_0_1_4 import gim_0_1_4
from hvp_patching.baselines.ig_inputs import ig_inputs
from hvp_patching.baselines.local_curvature import local_curvature
from hvp_patching.baselines.local_curvature_unweighted import local_curvature_unweighted
from hvp_patching.baselines.relp import RelpInactive, relp, relp_context
from hvp_patching.baselines.second_order_share import (
    JointExpansion,
    joint_expansion,
    second_order_share,
)
from hvp_patching.sites import n_layers

Baseline = Callable[..., torch.Tensor]


def one_pass(model: Any) -> int:
    """Cost of a baseline whose estimates all come from one reverse pass."""
    return 1


def two_passes(model: Any) -> int:
    """Cost of a second gradient, or of a product with a second-order matrix, as HVP's."""
    return 2


def steps_of(steps: int) -> Callable[[Any], int]:
    """Cost of a gradient at each of `steps` runs."""
    return lambda model: steps


# (model, pair, site="attn_heads", direction="noising", *, metric="logprob")
# -> float64 [n_components], in the metric's units (nats)
BASELINES: Named[Baseline] = Named(
    {
        "gim": gim,
        "gim_0_1_4": gim_0_1_4,
        "relp": relp,
        "atp_star": atp_star,
        "atp_star_qkv": atp_star_qkv,
        "clean_corrupted": clean_corrupted,
        "second_order_share": second_order_share,
        "local_curvature": local_curvature,
        "local_curvature_unweighted": local_curvature_unweighted,
        "gauss_newton": gauss_newton,
    },
    {"ig_inputs": lambda steps: partial(ig_inputs, steps=steps)},
)
BASELINES_VERSION = 2  # part of every store key: raise it when estimates change beyond rounding
# model -> nominal backward passes per component and prompt; GradDrop has one per dropped layer
COSTS: Named[Callable[[Any], int]] = Named(
    {
        "gim": one_pass,
        "gim_0_1_4": one_pass,
        "relp": one_pass,
        "atp_star": n_layers,
        "atp_star_qkv": n_layers,
        "clean_corrupted": two_passes,
        "second_order_share": two_passes,
        "local_curvature": one_pass,
        "local_curvature_unweighted": one_pass,
        "gauss_newton": two_passes,
    },
    {"ig_inputs": steps_of},
)

__all__ = [
    "BASELINES",
    "BASELINES_VERSION",
    "COSTS",
    "Baseline",
    "GimInactive",
    "JointExpansion",
    "RelpInactive",
    "atp_star",
    "atp_star_qkv",
    "clean_corrupted",
    "gauss_newton",
    "gim",
    "gim_0_1_4",
    "gim_context",
    "ig_inputs",
    "joint_expansion",
    "local_curvature",
    "local_curvature_unweighted",
    "relp",
    "relp_context",
    "second_order_share",
]
