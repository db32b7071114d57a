"""Random weights in the true shapes of the paper's models, for machines without the Hub."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig

from hvp_patching.models import from_huggingface, load_tokenizer
from hvp_patching.prompts import TokenPair

SHAPES: dict[str, Any] = {
    "pythia-410m": GPTNeoXConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        vocab_size=50304,
    ),
    "pythia-2.8b": GPTNeoXConfig(
        hidden_size=2560,
        num_hidden_layers=32,
        num_attention_heads=32,
        intermediate_size=10240,
        vocab_size=50304,
    ),
    "llama-3.1-8b": LlamaConfig(
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        vocab_size=128256,
        rope_theta=500000.0,
    ),
}


def random_model(shape: str, device: torch.device) -> Any:
    """A bridge over seeded random float32 weights of the shape, on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(SHAPES[shape], attn_implementation="eager")
    return from_huggingface(model, load_tokenizer("tiny-gpt2").tokenizer, False, shape)


def random_pair(model: Any, n_pos: int, first_changed: int) -> TokenPair:
    """A token pair of the given length that differs in one token."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(100, int(model.cfg.d_vocab) - 1, (n_pos,), generator=generator).tolist()
    other = [*ids[:first_changed], ids[first_changed] + 1, *ids[first_changed + 1 :]]
    return TokenPair(tuple(ids), tuple(other), (50,), f"random-{n_pos}-{first_changed}")
