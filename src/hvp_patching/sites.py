"""What can be patched: sites and their components in a model, and runs that read and write there.

The sites themselves are those of `places`, and importable from here too.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.isolation import isolated
from hvp_patching.places import (
    SITES,
    Hooks,
    Place,
    Site,
    get_site,
    layer_of,
    no_position,
    place,
    short,
    spoken,
)

__all__ = [
    "PLAIN_OUTPUTS",
    "SITES",
    "Component",
    "Hook",
    "Hooks",
    "Place",
    "Site",
    "configuration",
    "get_site",
    "layer_of",
    "layer_sizes",
    "n_layers",
    "place",
    "record",
    "resolve_components",
    "run_model",
    "sample_components",
    "spoken",
]

Component = tuple[int, int]  # (layer, index)
Hook = Callable[..., Any]
# What a configuration may ask of a model beside or instead of logits.
PLAIN_OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}


def resolve_components(site: Site, sizes: Sequence[int], requested: Any) -> tuple[Component, ...]:
    """All components in (layer, index) order, or the requested ones after checking each.

    `sizes` holds the number of components of every layer; a DataFrame with columns layer and index
    is a request too. ValueError names the first request outside the model, or an empty or repeated
    one, or what is no pair of whole numbers.
    """
    if requested is None:
        return tuple((layer, i) for layer, n in enumerate(sizes) for i in range(n))
    chosen = _pairs(requested)
    if not chosen:
        raise ValueError(f"no component requested at site '{site.name}'")
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"a component is requested twice at site '{site.name}'")
    for layer, index in chosen:
        if not 0 <= layer < len(sizes):
            raise ValueError(f"layer {layer} requested, but the model has {len(sizes)} layers")
        if not 0 <= index < sizes[layer]:
            raise ValueError(
                f"component {index} requested at site '{site.name}' in layer {layer}, "
                f"which has {sizes[layer]}"
            )
    return chosen


def _pairs(requested: Any) -> tuple[Component, ...]:
    if hasattr(requested, "itertuples"):  # the components of other jets
        requested = requested[["layer", "index"]].itertuples(index=False)
    try:
        return tuple((operator.index(layer), operator.index(index)) for layer, index in requested)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"components are a list of (layer, index) pairs of whole numbers, not {requested!r}"
        ) from error


def sample_components(
    sizes: Sequence[int], per_layer: int | None, seed: int = 0
) -> tuple[Component, ...]:
    """`per_layer` components of every layer, drawn without replacement, in (layer, index) order.

    All of them where `per_layer` is None or no smaller than the layer. A layer's draw depends on
    the seed, the layer and its size alone, and a larger sample contains the smaller one
    (section 4.1: 256 sampled neurons per layer). ValueError for per_layer < 1.
    """
    if per_layer is not None and per_layer < 1:
        raise ValueError(f"{per_layer} sampled components per layer; ask for at least 1")
    chosen: list[Component] = []
    for layer, size in enumerate(sizes):
        order = random.Random(f"{seed}/{layer}/{size}").sample(range(size), size)
        chosen += [(layer, index) for index in sorted(order[:per_layer])]
    return tuple(chosen)


def layer_sizes(model: Any, site: Site) -> tuple[int, ...]:
    """Number of components of every layer, read off the activations of a single token.

    ValueError as in record.
    """
    token = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    with isolated(), torch.no_grad():
        activations, _ = record(model, token, site, use_cache=False)
    return tuple(site.n_components(activation) for activation in activations)


def n_layers(model: Any) -> int:
    """Number of transformer blocks of a TransformerBridge."""
    return int(model.cfg.n_layers)


def configuration(model: Any) -> Any:
    """The Hugging Face configuration under a TransformerBridge, None where there is none."""
    return getattr(getattr(model, "original_model", model), "config", None)


def run_model(
    model: Any, ids: torch.Tensor, hooks: Sequence[tuple[str, Hook]] = (), **options: Any
) -> Any:
    """The last position's logits [n_rows, 1, vocabulary], or what the hooks have made of them.

    Whatever the model's configuration says its outputs should be; options go to the model.
    """
    config = configuration(model)
    asked = {name: getattr(config, name, plain) for name, plain in PLAIN_OUTPUTS.items()}
    changed = {name: value for name, value in asked.items() if value != PLAIN_OUTPUTS[name]}
    try:
        for name in changed:
            setattr(config, name, PLAIN_OUTPUTS[name])
        return model.run_with_hooks(
            ids, fwd_hooks=list(hooks), logits_to_keep=1, return_type="logits", **options
        )
    finally:
        for name, value in changed.items():
            setattr(config, name, value)


def record(
    model: Any, ids: torch.Tensor, at: Place, **options: Any
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The activation at each of the place's hooks, [1, n_pos, ...], and the last position's logits.

    A site has one hook in every layer. ids: [1, n_pos]; options go to the model. ValueError where
    the model lacks a hook, fails, runs one more than once, or holds something of another shape than
    the site's there.
    """
    names = at.names(n_layers(model))
    found: list[list[Any]] = [[] for _ in names]
    hooks = [(name, _keep(calls)) for name, calls in zip(names, found, strict=True)]
    try:
        logits = run_model(model, ids, hooks, **options)
    except KeyError as error:  # how the bridge refuses a hook that it does not have
        raise ValueError(f"{at.label}: {error.args[0]}") from error
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"{architecture(model)} fails in an unpatched run: {one_line(error)}"
        ) from error
    calls = zip(names, found, strict=True)
    return [_checked(model, ids, at, name, seen) for name, seen in calls], logits


def _keep(calls: list[Any]) -> Hook:
    def hook(activation: Any, hook: Any) -> None:
        is_tensor = isinstance(activation, torch.Tensor)
        calls.append(activation.detach().clone() if is_tensor else activation)

    return hook


def _checked(
    model: Any, ids: torch.Tensor, at: Place, name: str, calls: Sequence[Any]
) -> torch.Tensor:
    """The one activation that the hook saw, if it is what the place says."""
    hook = short(name)
    if not calls:
        raise ValueError(f"{at.label}: {hook} never runs in this model")
    if len(calls) > 1:
        raise ValueError(
            f"{at.label}: {hook} runs {len(calls)} times a pass{place(name)} of "
            f"{architecture(model)}, so that one patch would act several times"
        )
    (activation,) = calls
    shape = tuple(getattr(activation, "shape", ()))
    if len(shape) < 3 or shape[:2] != tuple(ids.shape) or not activation.is_floating_point():
        raise ValueError(no_position(model, at, name, activation, ids.shape[1]))
    result: torch.Tensor = activation
    at.check(model, name, result)
    return result
