"""Where the sites lie in Hugging Face's modules: names per family, no bridge.

A site means the same in every family:

attn_heads: input of the attention's output projection, cut into heads.
mlp_pre: output of the projection into the MLP's hidden layer, the gate's in a gated MLP.
mlp_post: input of the MLP's output projection.
mlp_out: what the MLP (or mixture of experts) adds to the residual stream, that is, its output after
    the norm that follows it, where one does.
resid_post: output of the decoder layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

LAYERS = (
    "model.layers",
    "model.language_model.layers",
    "model.decoder.layers",
    "transformer.h",
    "transformer.blocks",
    "gpt_neox.layers",
    "backbone.layers",
    "rwkv.blocks",
    "bert.encoder.layer",
)
ATTENTION_OUT = (
    "self_attn.o_proj",
    "self_attn.out_proj",
    "self_attn.dense",
    "self_attention.dense",
    "attention.dense",
    "attention.output.dense",
    "attn.c_proj",
    "attn.out_proj",
    "attn.attention.out_proj",
    "attn.Wo",
    "temporal_block.o_proj",
)
POST_NORM = ("post_feedforward_layernorm", "post_mlp_layernorm")
# Bloom's and MPT's MLP modules add the residual stream to what these give.
BEFORE_RESIDUAL = ("mlp.dense_4h_to_h", "ffn.down_proj")
MLP = ("mlp", "feed_forward", "ffn", "mlp_block", "block_sparse_moe")
HIDDEN_IN = ("gate_proj", "c_fc", "dense_h_to_4h", "fc1", "fc_in", "w1", "up_proj")
GATE_FIRST = ("gate_up_proj", "Wi")  # gate and up in one matrix: the gate is its first half
HIDDEN_OUT = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "w2", "Wo")
BARE_IN, BARE_OUT = ("fc1", "intermediate.dense"), ("fc2", "output.dense")  # no module around them

Change = Callable[[torch.Tensor], torch.Tensor | None]


class NoPlace(LookupError):
    """The model has no module that is what the site's name says."""


@dataclass(frozen=True)
class Place:
    """The modules of one site: what a forward pass gives there, and how it is cut up."""

    site: str
    paths: tuple[str, ...]  # one module per layer
    at_input: bool
    first_half: bool = False
    n_heads: int | None = None

    def n_layers(self) -> int:
        return len(self.paths)

    def meaning(self) -> str:
        """The module of a layer whose input or output this is: 'input of self_attn.o_proj'."""
        inside = list(
            dict.fromkeys(path.split(f".{i}.", 1)[-1] for i, path in enumerate(self.paths))
        )
        if self.site == "resid_post":
            return "output of the layer"
        what = (
            "input"
            if self.at_input
            else "first half of the output"
            if self.first_half
            else "output"
        )
        return f"{what} of {' or '.join(inside)}"

    def split(self, value: torch.Tensor) -> torch.Tensor:
        """View with the components on axis 2: [row, position, component(, within)]."""
        if self.site == "attn_heads":
            return value.view(*value.shape[:2], self.n_heads, -1)
        return value.unsqueeze(2) if self.site in {"mlp_out", "resid_post"} else value

    def attach(self, model: torch.nn.Module, layer: int, n_pos: int, change: Change) -> Any:
        """A hook that passes the activation [row, position, width] through `change`."""
        module = model.get_submodule(self.paths[layer])

        def changed(value: torch.Tensor) -> torch.Tensor:
            rows = value.unflatten(0, (-1, n_pos)) if value.ndim == 2 else value
            width = value.shape[-1] // 2 if self.first_half else value.shape[-1]
            new = change(rows[..., :width])
            if new is None:
                return value
            return torch.cat([new, rows[..., width:]], -1).reshape(value.shape)

        def before(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (changed(args[0]), *args[1:])

        def after(module: Any, args: Any, output: Any) -> Any:
            if isinstance(output, tuple | list):
                return type(output)((changed(output[0]), *output[1:]))
            return changed(output)

        if self.at_input:
            return module.register_forward_pre_hook(before)
        return module.register_forward_hook(after)


def find_place(model: torch.nn.Module, site: str) -> Place:
    """The site's modules in every layer; NoPlace where one layer has none."""
    layers = next((p for p in LAYERS if _has(model, p)), None)
    if layers is None:
        raise NoPlace("no list of decoder layers")
    paths = [f"{layers}.{i}" for i in range(len(model.get_submodule(layers)))]
    if site == "resid_post":
        return Place(site, tuple(paths), at_input=False)
    if site == "attn_heads":
        config = model.config.get_text_config()
        found = _each(model, paths, ATTENTION_OUT)
        return Place(site, found, at_input=True, n_heads=config.num_attention_heads)
    if site == "mlp_out":
        if any(_has(model, f"{path}.shared_mlp") for path in paths):
            raise NoPlace("experts and a shared MLP both add to the residual stream")
        return Place(
            site, _each(model, paths, POST_NORM + BEFORE_RESIDUAL + MLP + BARE_OUT), at_input=False
        )
    inside = [f"{path}.{mlp}" for path in paths for mlp in MLP if _has(model, f"{path}.{mlp}")]
    if site == "mlp_post":
        found = _each(model, inside, HIDDEN_OUT) if inside else _each(model, paths, BARE_OUT)
        return Place(site, found, at_input=True)
    fused = bool(inside) and any(_has(model, f"{inside[0]}.{name}") for name in GATE_FIRST)
    names = GATE_FIRST if fused else HIDDEN_IN
    found = _each(model, inside, names) if inside else _each(model, paths, BARE_IN)
    return Place(site, found, at_input=False, first_half=fused)


def _has(model: torch.nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _each(model: torch.nn.Module, parents: list[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """In every parent the first of `names` that it has."""
    found = []
    for parent in parents:
        name = next((name for name in names if _has(model, f"{parent}.{name}")), None)
        if name is None:
            raise NoPlace(f"{parent} has none of {', '.join(names)}")
        found.append(f"{parent}.{name}")
    return tuple(found)
