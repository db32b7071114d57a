"""Autoencoders as sae-lens lays them out: cfg.json and sae_weights.safetensors in a folder.

Its package is no dependency (it asks for an older transformer_lens); the files are enough. Only
safetensors are read, nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hvp_patching.failures import one_line, shown
from hvp_patching.features.autoencoder import Kind, SparseAutoencoder, Weights, check_fits
from hvp_patching.files import write_bytes, write_text
from hvp_patching.models.content import listed, read_json
from hvp_patching.models.errors import ModelError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
ARCHITECTURES = {"standard": "relu", "jumprelu": "jumprelu", "topk": "topk"}
FUNCTIONS = ("relu", "topk")  # of the older 'standard' with an activation function


def load_autoencoder(
    folder: str | Path, model: Any = None, dtype: torch.dtype = torch.float32
) -> SparseAutoencoder:
    """The autoencoder in a folder, in the model's dtype and on its device if a model is given.

    ModelError for files that are missing, damaged, no safetensors, not finite or of an unknown
    architecture, and for one of another width, hook or model than the model's.
    """
    place = Path(folder).expanduser()
    if not (place / CONFIG).is_file():
        raise ModelError(f"no {CONFIG} in {place}; give a folder with {CONFIG} and {WEIGHTS}")
    config = read_json(place / CONFIG)
    name = f"the autoencoder in {place}"
    kind = read_kind(config, name)
    weights = _plain(config, _read_weights(place), name)
    device = torch.device("cpu")
    if model is not None:
        dtype, device = model.cfg.dtype, next(model.parameters()).device
    found = SparseAutoencoder(kind, weights, name)
    check_sizes(config, found)
    if model is not None:
        check_fits(found, model)
        check_model(config, model, name)
    return found.to(device=device, dtype=dtype)


def save_autoencoder(
    autoencoder: SparseAutoencoder, folder: str | Path, about: Mapping[str, Any] | None = None
) -> None:
    """Write both files, each whole or not at all; about: further keys of the metadata."""
    kind, place = autoencoder.kind, Path(folder)
    architecture = {"relu": "standard"}.get(kind.activation, kind.activation)
    metadata = {"hook_name": kind.hook, **(about or {})}
    if kind.centred:
        metadata["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    config = {
        "architecture": architecture,
        "d_in": autoencoder.d_in,
        "d_sae": autoencoder.n_features,
        "dtype": "float32",
        "apply_b_dec_to_input": kind.subtracts_bias,
        "normalize_activations": kind.normalisation,
        **({"k": kind.k} if kind.activation == "topk" else {}),
        "metadata": metadata,
    }
    weights = {key: value.float().cpu().contiguous() for key, value in autoencoder.named_buffers()}
    write_bytes(place / WEIGHTS, save(weights))
    write_text(place / CONFIG, json.dumps(config, indent=2) + "\n")


def read_kind(config: Mapping[str, Any], name: str) -> Kind:
    """What a cfg.json says that the autoencoder computes; ModelError for what is not known here."""
    about = {**config, **_object(config, "metadata", name)}
    hook = about.get("hook_name") or about.get("hook_point")
    if hook is None or about.get("hook_head_index") is not None:
        raise ModelError(f"{name}: {CONFIG} names no hook of the residual stream (hook_name)")
    activation, k = _activation(config, name)
    kwargs = _object(about, "model_from_pretrained_kwargs", name)
    normalisation = str(config.get("normalize_activations") or "none").lower()
    if normalisation == "expected_average_only_in":
        raise ModelError(
            f"{name} wants its input scaled by a factor that is not in its files; fold the factor "
            "into the weights (sae-lens: fold_activation_norm_scaling_factor)"
        )
    return Kind(
        hook=str(hook),
        activation=activation,
        k=k,
        subtracts_bias=bool(config.get("apply_b_dec_to_input", True)),
        normalisation=normalisation,
        centred=bool(kwargs.get("center_writing_weights", False)),
    )


def _object(config: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    found = config.get(key) or {}
    if not isinstance(found, dict):
        raise ModelError(f"{name}: {key} in {CONFIG} is {shown(found)}; it must be an object")
    return found


def _activation(config: Mapping[str, Any], name: str) -> tuple[str, int]:
    architecture = str(config.get("architecture", "standard"))
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{name} has the architecture '{architecture}'; known: {known}")
    activation = ARCHITECTURES[architecture]
    if activation == "relu":
        activation = str(config.get("activation_fn") or config.get("activation_fn_str") or "relu")
        if activation not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise ModelError(f"{name} has the activation function '{activation}'; known: {known}")
    k = config.get("k", _object(config, "activation_fn_kwargs", name).get("k", 0))
    if activation == "topk" and (not isinstance(k, int) or isinstance(k, bool)):
        raise ModelError(f"{name}: k is {shown(k)}; it must be a whole number")
    return activation, int(k) if activation == "topk" else 0


def _read_weights(place: Path) -> Weights:
    path = place / WEIGHTS
    if not path.is_file():
        others = sorted(p.name for p in place.iterdir() if p.is_file() and p.name != CONFIG)
        found = f"only {listed(others)}" if others else "no weights"
        raise ModelError(
            f"{place} has {found}: the weights are {WEIGHTS} (pickle files are never read)"
        )
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged or no safetensors file ({one_line(error)}); fetch it again"
        ) from error


def _plain(config: Mapping[str, Any], weights: Weights, name: str) -> Weights:
    """The weights without factors that sae-lens keeps apart."""
    weights = dict(weights)
    factor = weights.pop("scaling_factor", None)
    if factor is not None and not bool((factor == 1).all()):
        raise ModelError(
            f"{name} has a scaling_factor from fine-tuning; fold it into W_dec, or give another"
        )
    if config.get("rescale_acts_by_decoder_norm") and {"W_enc", "b_enc", "W_dec"} <= set(weights):
        norm = weights["W_dec"].norm(dim=-1)
        weights["W_enc"] = weights["W_enc"] * norm
        weights["b_enc"] = weights["b_enc"] * norm
        weights["W_dec"] = weights["W_dec"] / norm[:, None]
    return weights


def check_sizes(config: Mapping[str, Any], autoencoder: SparseAutoencoder) -> None:
    """ModelError where the weights have other sizes than cfg.json says."""
    said = {"d_in": autoencoder.d_in, "d_sae": autoencoder.n_features}
    for key, actual in said.items():
        if config.get(key, actual) != actual:
            raise ModelError(
                f"{autoencoder.name}: {CONFIG} says {key} = {config[key]}, and its weights have "
                f"{actual}; the two files are of different autoencoders"
            )


def check_model(config: Mapping[str, Any], model: Any, name: str) -> None:
    """ModelError where cfg.json names other weights than the model's, or another known model."""
    from hvp_patching.models.identity import current_identity
    from hvp_patching.models.registry import MODELS

    about = {**config, **_object(config, "metadata", name)}
    weights, named = about.get("model_identity"), about.get("model_name")
    own = model.hvp_spec.name
    if weights is not None and weights != current_identity(model):
        raise ModelError(
            f"{name} was trained on other weights than those of {own} here; train it again, or "
            "give the model that it belongs to"
        )
    if weights is None and isinstance(named, str) and named in MODELS and named != own:
        raise ModelError(f"{name} is of {named}, not of {own}; give an autoencoder of {own}")
