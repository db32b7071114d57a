"""What can be patched: named sites, the hook each one reads and writes, and its components."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.isolation import isolated

Component = tuple[int, int]  # (layer, index)
Hook = Callable[..., Any]
# What a configuration may ask of a model beside or instead of logits.
PLAIN_OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}


@dataclass(frozen=True)
class Site:
    """One kind of component: a hook per layer and the axis that tells its components apart.

    `axis` is the activation's component axis, counted from the end (hook_z is
    [batch, position, head, d_head], so -2); None where the layer is one single component. `width`
    names the number in the model's configuration that the axis has (the last one where `axis` is
    None); None for neurons, which prove themselves otherwise (paths/site_proof.py).
    """

    name: str
    hook: str
    axis: int | None
    width: str | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"site '{self.name}'"

    def hook_name(self, layer: int) -> str:
        """Full TransformerLens name of the site's hook in `layer`."""
        return f"blocks.{layer}.{self.hook}"

    def names(self, layers: int) -> tuple[str, ...]:
        """The site's hook in every layer."""
        return tuple(self.hook_name(layer) for layer in range(layers))

    def part(self, index: int) -> tuple[int, ...]:
        """Where a component lies in an activation, behind the position: a patch's `part`."""
        return () if self.axis is None else (index,)

    def n_components(self, activation: torch.Tensor) -> int:
        """Number of components in one layer, read off its activation [batch, position, ...]."""
        return 1 if self.axis is None else activation.shape[self.axis]

    def check(self, model: Any, name: str, activation: torch.Tensor) -> None:
        """ValueError where the hook holds another shape than the site's."""
        if activation.ndim != (4 if self.axis == -2 else 3):
            raise ValueError(_no_position(model, self, name, activation))
        expected = self.width and getattr(model.cfg, self.width)
        actual = activation.shape[-1 if self.axis is None else self.axis]
        if expected and actual != expected:
            raise ValueError(
                f"{self.label}: {_short(name)} is {actual} wide{place(name)} of "
                f"{architecture(model)}, whose configuration says {self.width} = {expected}"
            )


@dataclass(frozen=True)
class Hooks:
    """A few hooks by their full TransformerLens names: where patches of one's own are put."""

    hooks: tuple[str, ...]

    @property
    def label(self) -> str:
        """How messages name them."""
        more = len(self.hooks) - 1
        return f"hook '{self.hooks[0]}'" + f" and {more} more" * bool(more)

    def names(self, layers: int) -> tuple[str, ...]:
        """The hooks."""
        return self.hooks

    def check(self, model: Any, name: str, activation: torch.Tensor) -> None:
        """Any width will do."""


Place = Site | Hooks

SITES: dict[str, Site] = {
    site.name: site
    for site in (
        Site("attn_heads", "attn.hook_z", -2, "n_heads"),
        Site("mlp_pre", "mlp.hook_pre", -1),
        Site("mlp_post", "mlp.hook_post", -1),
        Site("mlp_out", "hook_mlp_out", None, "d_model"),
        Site("resid_post", "hook_resid_post", None, "d_model"),
    )
}


def get_site(name: str) -> Site:
    """Look a site up by name; ValueError lists the known ones (section 4.1, component types)."""
    if name not in SITES:
        raise ValueError(f"unknown site '{name}'; choose one of: {', '.join(SITES)}")
    return SITES[name]


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
    hook = _short(name)
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
        raise ValueError(_no_position(model, at, name, activation, ids.shape[1]))
    result: torch.Tensor = activation
    at.check(model, name, result)
    return result


def _no_position(
    model: Any, at: Place, name: str, activation: Any, tokens: int | None = None
) -> str:
    shape = tuple(getattr(activation, "shape", ()))
    tokens = shape[1] if tokens is None else tokens
    return (
        f"{at.label}: {_short(name)} holds {shape or type(activation).__name__}{place(name)} of "
        f"{architecture(model)}, which is not one activation for each of {tokens} tokens"
    )


def place(name: str) -> str:
    """Where a hook lies, as messages tell it: ' in layer 3', or ' at hook_embed'."""
    layer = layer_of(name)
    return f" at {name}" if layer is None else f" in layer {layer}"


def spoken(name: str) -> str:
    """A hook as messages tell it: 'attn.hook_z of layer 3', or its name outside the blocks."""
    layer = layer_of(name)
    return name if layer is None else f"{_short(name)} of layer {layer}"


def _short(name: str) -> str:
    return name if layer_of(name) is None else name.split(".", 2)[2]


def layer_of(hook: str) -> int | None:
    """The block of a hook by its full name; None for one that lies outside the blocks."""
    parts = hook.split(".", 2)
    inside = len(parts) == 3 and parts[0] == "blocks" and parts[1].isdecimal()
    return int(parts[1]) if inside else None
