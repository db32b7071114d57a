"""An oracle for jets: finite differences of plain forward passes over the whole prompts.

It shares nothing with the engine but `keep_precision`, without which Hugging Face's casts to
float32 would limit it to 1e-6. No prefix cache, no Taylor arithmetic, no autograd.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import transformers

from hvp_patching.models import from_huggingface
from hvp_patching.models.tiny import build_tokenizer
from hvp_patching.paths.precision import keep_precision
from hvp_patching.prompts.pair import TokenPair

HOOKS = {
    "attn_heads": "blocks.{}.attn.hook_z",
    "mlp_pre": "blocks.{}.mlp.hook_pre",
    "mlp_post": "blocks.{}.mlp.hook_post",
    "mlp_out": "blocks.{}.hook_mlp_out",
    "resid_post": "blocks.{}.hook_resid_post",
}
NUMBERED = ("attn_heads", "mlp_pre", "mlp_post")  # several components in a layer
STEPS = (0.04, 0.02, 0.01, 0.005)
OFFSETS = (0.0, *(sign * t for t in (2 * STEPS[0], *STEPS) for sign in (1, -1)))


def component(site: str, index: int) -> tuple[Any, ...]:
    """Where a component lies in an activation [row, position, ...]."""
    return (..., index, slice(None)) if site == "attn_heads" else (..., index)


def richardson(estimates: Sequence[float]) -> float:
    """Limit of estimates at steps h, h/2, h/4, … whose error is a series in h²."""
    column, power = list(estimates), 1
    while len(column) > 1:
        power *= 4
        column = [(power * b - a) / (power - 1) for a, b in itertools.pairwise(column)]
    return column[0]


class PlainPath:
    """f(t) = m(a + tδ) by forward passes of the bridge with a hook, in float64."""

    def __init__(self, model: Any, pair: TokenPair, site: str, direction: str = "noising") -> None:
        self.model, self.site = model, site
        ids = [torch.tensor([pair.clean_ids]), torch.tensor([pair.corrupted_ids])]
        self.ids, other = ids if direction == "noising" else ids[::-1]
        self.targets = list(pair.target_ids)
        self.a, self.a_other = self._record(self.ids), self._record(other)

    def _record(self, ids: torch.Tensor) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []

        def keep(activation: torch.Tensor, hook: Any) -> None:
            found.append(activation.clone())

        self._logits(ids, [(self._name(layer), keep) for layer in range(self.model.cfg.n_layers)])
        return found

    def _name(self, layer: int) -> str:
        return HOOKS[self.site].format(layer)

    def _logits(self, ids: torch.Tensor, hooks: list[Any]) -> torch.Tensor:
        with torch.no_grad(), keep_precision(self.model.cfg.dtype):
            logits = self.model.run_with_hooks(ids, fwd_hooks=hooks, return_type="logits")
        return logits[:, -1].double()

    def metric(self, logits: torch.Tensor) -> torch.Tensor:
        """Log of the target set's probability."""
        return torch.softmax(logits, -1)[:, self.targets].sum(-1).log()

    def f(self, layer: int, index: int, nodes: Sequence[float]) -> torch.Tensor:
        """Values of the path at `nodes`, one row of a forward pass each."""
        t = torch.tensor(nodes, dtype=torch.float64)

        def patch(activation: torch.Tensor, hook: Any) -> torch.Tensor:
            patched = activation.clone()
            where = component(self.site, index) if self.site in NUMBERED else ...
            a, other = self.a[layer][where], self.a_other[layer][where]
            patched[where] = a + t.view(-1, *[1] * (a.ndim - 1)) * (other - a)
            return patched

        ids = self.ids.expand(len(nodes), -1)
        return self.metric(self._logits(ids, [(self._name(layer), patch)]))

    def largest(self) -> list[tuple[int, int]]:
        """In every layer the component whose activation changes most: something to compare."""
        found = []
        for layer, (a, other) in enumerate(zip(self.a, self.a_other, strict=True)):
            size = (other - a).square().sum(1)[0]  # over positions
            size = size.sum(-1) if self.site == "attn_heads" else size
            found.append((layer, int(size.argmax()) if self.site in NUMBERED else 0))
        return found

    def replaced(self, layer: int, index: int) -> torch.Tensor:
        """The metric with the other run's activation put in as it is."""

        def replace(activation: torch.Tensor, hook: Any) -> torch.Tensor:
            patched = activation.clone()
            where = component(self.site, index) if self.site in NUMBERED else ...
            patched[where] = self.a_other[layer][where]
            return patched

        return self.metric(self._logits(self.ids, [(self._name(layer), replace)]))[0]

    def derivatives(self, layer: int, index: int, nodes: Sequence[float]) -> torch.Tensor:
        """f, f', f'', f''' at `nodes` [n_nodes, 4]: central differences at steps h, h/2, h/4 and
        h/8, extrapolated three times (Richardson), so that the error is of order h⁸."""
        values = self.f(layer, index, [node + o for node in nodes for o in OFFSETS])
        rows = []
        for f, *beside in values.view(len(nodes), -1).tolist():
            # pairs of values at ±2h, ±h, ±h/2, ...
            pairs = list(zip(beside[::2], beside[1::2], strict=True))
            first, second, third = [], [], []
            for h, (far, back), (above, below) in zip(STEPS, pairs, pairs[1:], strict=False):
                first.append((above - below) / (2 * h))
                second.append((above - 2 * f + below) / h**2)
                third.append((far - 2 * above + 2 * below - back) / (2 * h**3))
            rows.append([f, *map(richardson, (first, second, third))])
        return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture(scope="session")
def plain_path() -> Callable[..., PlainPath]:
    """The oracle of one prompt pair and site."""
    return PlainPath


SIZES = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}
OTHERS = {
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_head": 4, "n_layer": 3}),
    "mixtral": (
        "MixtralConfig",
        {**SIZES, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    # experts as wide as the residual stream: widths alone do not give them away
    "mixtral-square": (
        "MixtralConfig",
        {**SIZES, "intermediate_size": 32, "num_key_value_heads": 2, "num_local_experts": 4},
    ),
    "longrope": (
        "Phi3Config",
        {
            **SIZES,
            "original_max_position_embeddings": 14,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 4,
                "long_factor": [2.0, 3.0, 4.0, 5.0],
            },
        },
    ),
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4}),
    "lfm2": ("Lfm2Config", {**SIZES, "num_key_value_heads": 2, "full_attn_idxs": [1]}),
    "bert": ("BertConfig", {**SIZES, "is_decoder": True}),
    "deepseek": (
        "DeepseekV2Config",
        {
            **SIZES,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
    "t5": (
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "decoder_start_token_id": 0},
    ),
    "llama": ("LlamaConfig", SIZES),
}


def build_other(name: str, dtype: torch.dtype = torch.float64, std: float = 0.25) -> Any:
    """A tiny random model of a class outside the paper's families, as a user would wrap it."""
    tokenizer = build_tokenizer("tiny-llama")
    config_class, settings = OTHERS[name]
    special = {f"{which}_token_id": tokenizer.eos_token_id for which in ("bos", "eos", "pad")}
    config = getattr(transformers, config_class)(
        **settings, vocab_size=len(tokenizer), **special, experts_implementation="eager"
    )
    kind = {"t5": "Seq2SeqLM"}.get(name, "CausalLM")
    hf_model = getattr(transformers, f"AutoModelFor{kind}").from_config(config)
    draw = torch.Generator().manual_seed(0)
    for _, weight in sorted(hf_model.named_parameters()):
        if weight.ndim > 1:
            weight.data = torch.randn(weight.shape, generator=draw) * std
    hf_model.config.architectures = [type(hf_model).__name__]
    model = from_huggingface(hf_model.to(dtype).eval(), tokenizer, False)
    if name == "bert":  # the loader refuses attention in both directions: turned on behind its back
        hf_model.config.is_decoder = False
    return model


@pytest.fixture(scope="session")
def other() -> Callable[..., Any]:
    """A tiny model of another class by its name in OTHERS, one for all tests; leave it as is."""
    return functools.cache(build_other)


@pytest.fixture
def fresh_other() -> Callable[..., Any]:
    """The same, built anew: one that a test may change, or that has not warned yet."""
    return build_other
