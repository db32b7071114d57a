"""Autoencoders of one model: trained on its own texts, read from files, and assessed.

Rules train_autoencoder, assess_autoencoders and compute_features.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from hvp_patching.cache import Store
from hvp_patching.features.activations import activations
from hvp_patching.features.autoencoder import SparseAutoencoder, layer_of_hook
from hvp_patching.features.fidelity import fidelity
from hvp_patching.features.layout import load_autoencoder
from hvp_patching.features.training import Plan, TrainingKey, train_autoencoder
from hvp_patching.models.environment import current_environment
from hvp_patching.models.errors import ModelError
from hvp_patching.models.identity import current_identity

Advance = Callable[[float], Any]
READING = 0.15  # of a training's time goes into reading activations, for the bar


def read_texts(path: str | Path, part: str) -> torch.Tensor:
    """Token ids [n, length] of 'train' or 'held_out'; ModelError where there are none."""
    ids = load_file(str(path))[part]
    if not ids.numel():
        raise ModelError(f"{path} has no texts '{part}'; sample them again")
    return ids


def train_on_texts(
    model: Any,
    ids: torch.Tensor,
    hook: str,
    plan: Plan,
    store: Store,
    seed: int = 0,
    advance: Advance = lambda steps: None,
) -> tuple[SparseAutoencoder, dict[str, Any]]:
    """An autoencoder of a hook of the residual stream, and what its files say of its making.

    advance is called with the steps that were done since its last call, reading included.
    ModelError for another hook, a layer that the model does not have, and as train_autoencoder.
    """
    if layer_of_hook(hook) >= model.cfg.n_layers:
        raise ModelError(f"no {hook}: the model has {model.cfg.n_layers} layers")
    n_tokens, weights = ids.shape[0] * (ids.shape[1] - 1), current_identity(model)
    texts = hashlib.sha256(ids.contiguous().numpy().tobytes()).hexdigest()
    plan.check(n_tokens)
    share = READING * plan.steps

    def reading(tokens: int) -> None:
        advance(share * tokens / n_tokens)

    def training(steps: int) -> None:
        advance((1 - READING) * steps)

    x = activations(model, ids, hook, reading)
    logging.info("%d activations at %s", len(x), hook)
    sizes = (plan.n_features, plan.k, plan.steps, plan.batch)
    key = TrainingKey(weights, str(model.cfg.dtype), seed, texts, hook, *sizes)
    autoencoder = train_autoencoder(
        *(x, hook, plan, store, key, current_environment(model), training),
        name=f"the autoencoder at {hook}",
    )
    about = {
        "model_name": model.hvp_spec.name,
        "model_identity": weights,
        "training": f"{plan.steps} steps of {plan.batch} of {n_tokens} tokens that the model "
        f"sampled, seed {seed}",
    }
    return autoencoder, about


def read_autoencoders(
    files: Sequence[str], hooks: Sequence[str], model: Any
) -> list[SparseAutoencoder]:
    """Autoencoders by their cfg.json (other files are passed over), one for each hook in order.

    ModelError where one is of another hook than its folder stands for, or as load_autoencoder.
    """
    folders = [Path(file).parent for file in files if Path(file).name == "cfg.json"]
    found = []
    for folder, hook in zip(folders, hooks, strict=True):
        autoencoder = load_autoencoder(folder, model)
        if autoencoder.kind.hook != hook:
            raise ModelError(
                f"{autoencoder.name} reads {autoencoder.kind.hook}, not {hook}; give one of {hook}"
            )
        found.append(autoencoder)
    return found


def assess(
    model: Any,
    autoencoders: Sequence[SparseAutoencoder],
    ids: torch.Tensor,
    trained: bool,
    advance: Advance = lambda tokens: None,
) -> pd.DataFrame:
    """The frame `autoencoders`: one row each, with fidelity on the held-out texts `ids`.

    trained: whether they are our own. Errors as in fidelity.
    """
    rows = []
    for autoencoder in autoencoders:
        kind = autoencoder.kind
        quality = fidelity(model, autoencoder, ids, advance)
        logging.info("%s: %s", kind.hook, {k: round(v, 4) for k, v in quality.items()})
        about = {
            "layer": kind.layer,
            "hook": kind.hook,
            "n_features": autoencoder.n_features,
            "activation": kind.activation,
            "trained": trained,
        }
        rows.append(about | quality)
    return pd.DataFrame(rows)
