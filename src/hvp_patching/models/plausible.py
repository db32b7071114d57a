"""What a configuration asks for against what its weights hold: nothing is built that they lack.

One number of a config.json is enough to make a library build 10^9 layers, or a list of as many
names, before it looks at a weight. So this is asked first, of the files' headers alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hvp_patching.models.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]
COUNTS = re.compile(r"(layers?|experts?|blocks?|depth)$")  # each would be a module of its own
ANY_MODEL = 4096  # layers or experts that cost nothing to try
# Weights that may be shared, tied or left out, as a factor on what the files hold.
ROOM = 16
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
WIDTH = ("hidden_size", "n_embd", "d_model")
MLP = ("intermediate_size", "n_inner", "ffn_dim")
HEADS = ("num_attention_heads", "n_head", "n_heads")


def check_plausible(name: str, place: object, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise ModelError where a configuration asks for far more than the tensors of `shapes`.

    `config` is its JSON; `place`, the file that errors name. Which weights there must be is checked
    later, when the model's modules are known.
    """
    for key, value in _numbers(config):
        if COUNTS.search(key) and value > max(ANY_MODEL, len(shapes)):
            raise ModelError(
                f"{name}: {key} is {value} in {place}, and its weights are {len(shapes)} tensors; "
                "the file is damaged or of another model, fetch it again"
            )
    held = sum(math.prod(shape) for shape in shapes.values())
    for what, wanted in _wanted(config).items():
        if wanted > ROOM * max(held, 1):
            raise ModelError(
                f"{name}: {place} asks for {wanted:.3g} weights ({what}), and its files hold "
                f"{held:.3g}; the file is damaged or of another model, fetch it again"
            )


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Every whole number that a key names, at any depth."""
    nested: list[Mapping[str, Any]] = [config]
    while nested:
        for key, value in nested.pop().items():
            if isinstance(value, Mapping):
                nested.append(value)
            elif isinstance(value, int):
                yield str(key), value


def _wanted(config: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of matrices that a language model of these lengths has, all layers together."""
    text = config.get("text_config")
    parts = text if isinstance(text, Mapping) else config
    layers, width, mlp, heads = (_first(parts, keys) for keys in (LAYERS, WIDTH, MLP, HEADS))
    queries = heads * _first(parts, ("head_dim",))
    return {
        "vocabulary × width": _first(parts, ("vocab_size",)) * width,
        "positions × width": _first(parts, ("n_positions",)) * width,
        "layers × width × MLP": layers * width * mlp,
        "layers × width × heads × their width": layers * width * queries,
        "layers × width": layers * width,
    }


def _first(config: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    found = (config[key] for key in keys if isinstance(config.get(key), int))
    return max(0, next(found, 0))
