"""Tiny random models of every causal language model class that the bridge can load.

One table of sizes serves every configuration class; OVERRIDES holds what a class needs beyond it.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hvp_patching.models.tiny import build_tokenizer

STD = 0.25

# Given to every class that has a setting of this name: width 32, 4 heads, 3 layers, MLP width 64.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), 32),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 3),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 256),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("bos_token_id", "pad_token_id"), 0),
    "eos_token_id": 1,
    "head_dim": 8,
    "rotary_dim": 4,
    "sliding_window": 8,  # shorter than any prompt of the matrix
}
LATENT = {  # multi-head latent attention
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_group": 1,
    "topk_group": 1,
    "head_dim": 4,
    "first_k_dense_replace": 1,
}
SSM = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
MIXED = ["sliding_attention", "sliding_attention", "full_attention"]
HYBRID = ["linear_attention", "full_attention", "linear_attention"]
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
SMALL_GEMMA4 = {
    "global_head_dim": 16,
    "vocab_size_per_layer_input": 6000,
    "hidden_size_per_layer_input": 8,
}
# Loadable in principle, but not built here.
UNBUILDABLE = {"gemma3n": "its vision tower needs the package timm"}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 64,
    "image_size": 28,
    "patch_size": 14,
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "gemma3": {"mm_tokens_per_image": 4, "vision_config": VISION},
    "bamba": {**SSM, "attn_layer_indices": [1]},
    "bert": {"is_decoder": True},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "glm4_moe_lite": LATENT,
    "glm_moe_dsa": LATENT,
    "youtu": LATENT,
    "falcon_h1": {**SSM, "mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 1], [["global"], 1]], "window_size": 8},
    "granitemoehybrid": {**SSM, "layer_types": ["mamba", "attention", "mamba"]},
    "mamba2": {"head_dim": 16, "num_heads": 4, "state_size": 8, "n_groups": 1},
    "gemma3_text": {"layer_types": MIXED},
    "gemma4_text": {"layer_types": MIXED, **SMALL_GEMMA4},
    "gemma4_unified_text": {"layer_types": MIXED, "global_head_dim": 16},
    "qwen3_5_text": {**DELTA_NET, "layer_types": HYBRID},
    "qwen3_5_moe_text": {**DELTA_NET, "layer_types": HYBRID},
    "qwen3_next": {**DELTA_NET, "layer_types": HYBRID},
    "olmo_hybrid": {**DELTA_NET, "layer_types": HYBRID},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid", "mamba"],
        "mamba_headdim": 16,
        "n_mamba_heads": 4,
        "mamba_d_state": 8,
        "attention_head_dim": 16,
    },
}


VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "bert": {"bidirectional": {"is_decoder": False}},
    "cohere": {"query-key norm": {"use_qk_norm": True}},
    "falcon": {
        "alibi": {"alibi": True},
        "grouped queries": {"new_decoder_architecture": True},
        "sequential": {"parallel_attn": False},
    },
    "gpt_neox": {"sequential": {"use_parallel_residual": False}},
    "llama": {
        "dynamic rope": {
            "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
            "max_position_embeddings": 14,
        },
        "yarn": {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "rope_theta": 1e4,
                "original_max_position_embeddings": 14,
            },
        },
    },
    "opt": {"post-norm": {"do_layer_norm_before": False}},
    "phi3": {
        "longrope": {
            "original_max_position_embeddings": 14,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [2.0, 3.0, 4.0, 5.0],
                "original_max_position_embeddings": 14,
            },
        },
    },
    "stablelm": {"parallel": {"use_parallel_residual": True}},
}


@dataclass(frozen=True, order=True)
class Architecture:
    """A configuration class by its model type, and which of its variants."""

    model_type: str
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.model_type}+{self.variant}" if self.variant else self.model_type

    @property
    def config(self) -> str:
        """Name of the configuration class."""
        return str(CONFIG_MAPPING[self.model_type].__name__)


def architectures() -> list[Architecture]:
    """Every loadable model type, and the variants of some."""
    return [
        Architecture(kind, variant)
        for kind in model_types()
        if kind not in UNBUILDABLE
        for variant in ("", *VARIANTS.get(kind, {}))
    ]


def model_types() -> list[str]:
    """Every model type whose causal language model class the bridge has an adapter for."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    return [
        kind
        for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
        if name in SUPPORTED_ARCHITECTURES
    ]


@functools.cache
def tokenizer() -> Any:
    """The tokenizer of tiny-llama."""
    return build_tokenizer("tiny-llama")


def small_config(architecture: Architecture) -> PreTrainedConfig:
    """The class's configuration at the sizes of this module."""
    kind, variant = architecture.model_type, architecture.variant
    settings = _settings(kind, CONFIG_MAPPING[kind])
    changes = VARIANTS[kind][variant] if variant else {}
    return CONFIG_MAPPING[kind](**{**settings, **changes})


def _settings(model_type: str, config: type[PreTrainedConfig]) -> dict[str, Any]:
    sizes = {**SIZES, "vocab_size": len(tokenizer())}
    names = set(config().to_dict()) | set(config.attribute_map)
    chosen = {name: value for name, value in sizes.items() if name in names}
    for name, nested in config.sub_configs.items():
        if isinstance(nested, type) and issubclass(nested, PreTrainedConfig) and nested.model_type:
            chosen[name] = _settings(nested.model_type, nested)
    return {**chosen, **OVERRIDES.get(model_type, {})}


def build(architecture: Architecture, plain: bool = True) -> PreTrainedModel:
    """The model in float64 and eval mode: the same weights at every call.

    plain: attention and experts in plain operations, as the oracle wants them; otherwise whatever
    kernels the class takes by default, as a user's model comes.
    """
    kinds = ("attn_implementation", "experts_implementation") if plain else ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            small_config(architecture), **dict.fromkeys(kinds, "eager")
        )
    torch.nn.Module.to(model, dtype=torch.float64)
    for name, parameter in model.named_parameters():
        digest = hashlib.sha256(f"{architecture}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "little"))
        draws = STD * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        # Vectors (norms, biases, decay rates) keep their meaning: drawn around where they start.
        parameter.data.copy_(draws if parameter.ndim > 1 else parameter.data + draws)
    return model.eval()
