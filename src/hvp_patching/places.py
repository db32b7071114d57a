"""Where patches go: the sites by name, what each one's components are, and hooks of one's own.

Nothing here loads a model or torch: the workflow and the tables ask it what sites there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hvp_patching.failures import architecture

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Site:
    """One kind of component: a hook per layer and the axis that tells its components apart.

    `heading` is how tables name its components; `sampled` says that a layer has too many of them to
    measure each. `axis` is the activation's component axis, counted from the end (hook_z is
    [batch, position, head, d_head], so -2); None where the layer is one single component. `width`
    names the number in the model's configuration that the axis has (the last one where `axis` is
    None); None for neurons, which prove themselves otherwise (paths/site_proof.py).
    """

    name: str
    hook: str
    axis: int | None
    width: str | None = None
    heading: str = ""
    sampled: bool = False

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
            raise ValueError(no_position(model, self, name, activation))
        expected = self.width and getattr(model.cfg, self.width)
        actual = activation.shape[-1 if self.axis is None else self.axis]
        if expected and actual != expected:
            raise ValueError(
                f"{self.label}: {short(name)} is {actual} wide{place(name)} of "
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
        Site("attn_heads", "attn.hook_z", -2, "n_heads", "Attention heads"),
        Site("mlp_pre", "mlp.hook_pre", -1, None, "Pre-act neurons", sampled=True),
        Site("mlp_post", "mlp.hook_post", -1, None, "Post-act neurons", sampled=True),
        Site("mlp_out", "hook_mlp_out", None, "d_model", "MLP output"),
        Site("resid_post", "hook_resid_post", None, "d_model", "Residual stream"),
    )
}


def get_site(name: str) -> Site:
    """Look a site up by name; ValueError lists the known ones (section 4.1, component types)."""
    if name not in SITES:
        raise ValueError(f"unknown site '{name}'; choose one of: {', '.join(SITES)}")
    return SITES[name]


def no_position(
    model: Any, at: Place, name: str, activation: Any, tokens: int | None = None
) -> str:
    """What messages say of an activation that has no place for each token."""
    shape = tuple(getattr(activation, "shape", ()))
    tokens = shape[1] if tokens is None else tokens
    return (
        f"{at.label}: {short(name)} holds {shape or type(activation).__name__}{place(name)} of "
        f"{architecture(model)}, which is not one activation for each of {tokens} tokens"
    )


def place(name: str) -> str:
    """Where a hook lies, as messages tell it: ' in layer 3', or ' at hook_embed'."""
    layer = layer_of(name)
    return f" at {name}" if layer is None else f" in layer {layer}"


def spoken(name: str) -> str:
    """A hook as messages tell it: 'attn.hook_z of layer 3', or its name outside the blocks."""
    layer = layer_of(name)
    return name if layer is None else f"{short(name)} of layer {layer}"


def short(name: str) -> str:
    """A hook's name within its block, or the full one outside the blocks."""
    return name if layer_of(name) is None else name.split(".", 2)[2]


def layer_of(hook: str) -> int | None:
    """The block of a hook by its full name; None for one that lies outside the blocks."""
    parts = hook.split(".", 2)
    inside = len(parts) == 3 and parts[0] == "blocks" and parts[1].isdecimal()
    return int(parts[1]) if inside else None
