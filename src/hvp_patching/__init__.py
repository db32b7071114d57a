"""Second-order attribution patching: which attribution scores to trust, and how to correct them.

>>> import hvp_patching as hp
>>> model = hp.load_model("tiny-gpt2", dtype="float64")
>>> pair = hp.PromptPair(
...     clean="When Mary and John went to the store, John gave a drink to",
...     corrupted="When Mary and John went to the store, Mary gave a drink to",
...     target=" Mary",
... )
>>> jets = hp.path_jets(model, pair, site="attn_heads", nodes=(0.0, 0.5), order=2)
>>> tuple(jets.values.shape)  # heads, nodes, f f' f''
(12, 2, 3)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvp_patching import estimators
    from hvp_patching.baselines.atp_star import atp_star
    from hvp_patching.baselines.atp_star_qkv import atp_star_qkv
    from hvp_patching.baselines.clean_corrupted import clean_corrupted
    from hvp_patching.baselines.gauss_newton import gauss_newton
    from hvp_patching.baselines.gim import gim
    from hvp_patching.baselines.gim_0_1_4 import gim_0_1_4
    from hvp_patching.baselines.ig_inputs import ig_inputs
    from hvp_patching.baselines.local_curvature import local_curvature
    from hvp_patching.baselines.relp import relp
    from hvp_patching.baselines.second_order_share import joint_expansion, second_order_share
    from hvp_patching.certified.result import Screening
    from hvp_patching.certified.screen import screen
    from hvp_patching.circuits.faithfulness import faithfulness
    from hvp_patching.circuits.joint import joint_effects
    from hvp_patching.circuits.scores import edge_scores
    from hvp_patching.features import SparseAutoencoder, feature_jets, load_autoencoder
    from hvp_patching.models import from_huggingface, list_models, load_model
    from hvp_patching.paths import (
        Jets,
        Metric,
        Patch,
        activation_patching,
        hessian_vector_products,
        lipschitz_estimates,
        logit_difference,
        path_jets,
        site_attribution,
    )
    from hvp_patching.prompts import PromptPair, TokenPair, as_token_pair, tokenize
    from hvp_patching.screening import reliability, screen_flag_fix

__version__ = "0.1.0"

__all__ = [
    "Jets",
    "Metric",
    "Patch",
    "PromptPair",
    "Screening",
    "SparseAutoencoder",
    "TokenPair",
    "activation_patching",
    "as_token_pair",
    "atp_star",
    "atp_star_qkv",
    "clean_corrupted",
    "edge_scores",
    "estimators",
    "faithfulness",
    "feature_jets",
    "from_huggingface",
    "gauss_newton",
    "gim",
    "gim_0_1_4",
    "hessian_vector_products",
    "ig_inputs",
    "joint_effects",
    "joint_expansion",
    "lipschitz_estimates",
    "list_models",
    "load_autoencoder",
    "load_model",
    "local_curvature",
    "logit_difference",
    "path_jets",
    "reliability",
    "relp",
    "screen",
    "screen_flag_fix",
    "second_order_share",
    "site_attribution",
    "tokenize",
]

# Resolved on first use: importing transformer_lens takes seconds, and the workflow's table and
# metric rules need none of it.
_HOMES = {
    "baselines": (
        "atp_star",
        "atp_star_qkv",
        "clean_corrupted",
        "gauss_newton",
        "gim",
        "gim_0_1_4",
        "ig_inputs",
        "joint_expansion",
        "local_curvature",
        "relp",
        "second_order_share",
    ),
    "certified.result": ("Screening",),
    "certified.screen": ("screen",),
    "circuits.faithfulness": ("faithfulness",),
    "circuits.joint": ("joint_effects",),
    "circuits.scores": ("edge_scores",),
    "features": ("SparseAutoencoder", "feature_jets", "load_autoencoder"),
    "models": ("from_huggingface", "list_models", "load_model"),
    "paths": (
        "Jets",
        "Metric",
        "Patch",
        "activation_patching",
        "hessian_vector_products",
        "lipschitz_estimates",
        "logit_difference",
        "path_jets",
        "site_attribution",
    ),
    "prompts": ("PromptPair", "TokenPair", "as_token_pair", "tokenize"),
    "screening": ("reliability", "screen_flag_fix"),
}


def __getattr__(name: str) -> Any:
    if name == "estimators":
        return importlib.import_module("hvp_patching.estimators")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"hvp_patching.{module}"), name)
    raise AttributeError(f"module 'hvp_patching' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
