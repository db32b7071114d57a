"""Rules that change a model's gradients and leave its values: shared by GIM and RelP.

Every rule is a hook of the bridge, and every hook that a rule needs must be seen to act.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from transformer_lens.model_bridge.generalized_components.normalization import (
    NATIVE_PATH_EDIT_FALLBACK_WARNING,
)

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.isolation import isolated
from hvp_patching.paths.precision import keep_precision, tolerance
from hvp_patching.sites import SITES, Hook, n_layers, run_model

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NORM_HOOK = "hook_scale"
PRE, POST = SITES["mlp_pre"].hook_name, SITES["mlp_post"].hook_name
Named = tuple[str, Hook]


def up_hook(layer: int) -> str:
    """The linear factor of a gated MLP."""
    return f"blocks.{layer}.mlp.hook_pre_linear"


@dataclass
class Watch:
    """Which hook points a method's rules need, and which of them have seen a tensor.

    method: its name in messages; error: what it raises where a rule did not act.
    """

    method: str
    error: type[ValueError]
    needed: dict[int, str] = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)

    def need(self, model: TransformerBridge, suffixes: Sequence[str]) -> int:
        """Watch every hook point of these names' endings; how many. The error where none is."""
        before = len(self.needed)
        for suffix in suffixes:
            # by identity, since a bridge lists one point under several names
            found = {id(hp): name for name, hp in model.hook_dict.items() if name.endswith(suffix)}
            if not found:
                raise self.error(
                    f"The model has no hook named *{suffix}, which {self.method} modifies: "
                    "pass a TransformerBridge of a decoder with separate q, k and v hooks."
                )
            self.needed |= found
        return len(self.needed) - before

    @contextmanager
    def recording(self, model: TransformerBridge) -> Iterator[None]:
        """Note which of the watched points see a tensor, which is left alone."""

        def record(tensor: torch.Tensor, hook: Any, name: str) -> None:
            self.fired.add(name)

        hooks = [(name, partial(record, name=name)) for name in self.needed.values()]
        with model.hooks(fwd_hooks=hooks):
            yield

    def check(self) -> None:
        """The error unless every watched point has seen a tensor."""
        silent = sorted(set(self.needed.values()) - self.fired)
        if silent:
            raise self.error(
                f"{len(silent)} of the {len(self.needed)} hooks that {self.method} modifies never "
                f"fired (first: {silent[0]}): run a whole forward pass of this model inside the "
                "context."
            )


@contextmanager
def edits_of_scales_allowed() -> Iterator[None]:
    """Freezing a norm edits its scale, which the bridge announces at every norm of every pass."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=re.escape(NATIVE_PATH_EDIT_FALLBACK_WARNING))
        yield


@contextmanager
def failures_named(
    model: TransformerBridge, method: str, error: type[ValueError]
) -> Iterator[None]:
    """A model that fails under a method's hooks raises the method's error, in one line."""
    try:
        yield
    except Exception as problem:
        if isinstance(problem, ValueError) or out_of_memory(problem):
            raise
        raise error(
            f"{method}: {architecture(model)} fails where gradients are modified: "
            f"{one_line(problem)}"
        ) from problem


def detached(activation: torch.Tensor, hook: object) -> torch.Tensor:
    """A hook that makes its activation a constant."""
    return activation.detach()


class _Scaled(torch.autograd.Function):
    """The same value with another gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient * ctx.scale, None


def scaled_gradient(scale: float) -> Hook:
    """A hook that multiplies the gradient through its activation."""

    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        scaled: torch.Tensor = _Scaled.apply(activation, scale)  # type: ignore[no-untyped-call]
        return scaled

    return hook


# --- MLPs ---------------------------------------------------------------------------------------

_KINDS: WeakKeyDictionary[Any, dict[int, bool]] = WeakKeyDictionary()


class _UnknownMLP(ValueError):
    """An MLP whose hooks do not hold what rules for MLPs need."""


def gated_layers(model: TransformerBridge, watch: Watch, rule: str) -> Mapping[int, bool]:
    """Per layer with an MLP, whether it multiplies φ(pre) by a linear factor, or is φ(pre) alone.

    Seen once of every model, in one pass of a single token. The watch's error where a layer's MLP
    is neither (experts, or hooks that hold something else): `rule` could not act there.
    """
    if model not in _KINDS:
        try:
            with isolated():
                _KINDS[model] = _seen(model)
        except _UnknownMLP as problem:
            raise watch.error(f"{watch.method}: {problem}, so that {rule} cannot act") from None
    return _KINDS[model]


def _seen(model: TransformerBridge) -> dict[int, bool]:
    layers = _layers_with_mlp(model)
    leaves: dict[str, torch.Tensor] = {}
    posts: dict[int, torch.Tensor] = {}
    hooks: list[Named] = []
    for layer in layers:
        names = [name for name in (PRE(layer), up_hook(layer)) if name in model.hook_dict]
        hooks += [(name, leaf(leaves, name)) for name in names]
        hooks.append((POST(layer), _keep(posts, layer)))
    token = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    with keep_precision(model.cfg.dtype):
        run_model(model, token, hooks, use_cache=False)
    return {layer: _is_gated(model, layer, leaves, posts) for layer in layers}


def _layers_with_mlp(model: TransformerBridge) -> list[int]:
    found = []
    for layer in range(n_layers(model)):
        if any(name.startswith(f"blocks.{layer}.mlp.") for name in model.hook_dict):
            if PRE(layer) not in model.hook_dict or POST(layer) not in model.hook_dict:
                raise _UnknownMLP(
                    f"layer {layer} of {architecture(model)} has an MLP without mlp.hook_pre and "
                    "mlp.hook_post"
                )
            found.append(layer)
    return found


def _is_gated(
    model: TransformerBridge,
    layer: int,
    leaves: Mapping[str, torch.Tensor],
    posts: Mapping[int, torch.Tensor],
) -> bool:
    """post = φ(pre) · up, which up · ∂post/∂up tells, or post = φ(pre); neurons do not mix."""
    pre, up, post = leaves.get(PRE(layer)), leaves.get(up_hook(layer)), posts.get(layer)
    problem = _UnknownMLP(
        f"mlp.hook_post in layer {layer} of {architecture(model)} is neither an activation "
        "function of mlp.hook_pre nor that times mlp.hook_pre_linear (experts?)"
    )
    if pre is None or post is None or post.shape != pre.shape or not post.requires_grad:
        raise problem
    inputs = [pre] if up is None else [pre, up]
    weights = torch.linspace(1, 2, post.numel(), dtype=post.dtype, device=post.device)
    weights = weights.view_as(post)
    plain, weighted = (
        torch.autograd.grad(post, inputs, w, retain_graph=True, allow_unused=True)
        for w in (torch.ones_like(post), weights)
    )
    close = partial(_close, relative=tolerance(post.dtype))
    for one, other in zip(plain, weighted, strict=True):
        if one is None or other is None or not close(other, weights * one):
            raise problem
    if _others(post, inputs) or (up is not None and not close(plain[1] * up, post)):
        raise problem
    return up is not None


def _close(a: torch.Tensor, b: torch.Tensor, relative: float) -> bool:
    return bool((a - b).abs().max() <= relative * b.abs().max().clamp(min=1e-3))


def _others(post: torch.Tensor, inputs: Sequence[torch.Tensor]) -> bool:
    """Whether anything but the inputs and the weights leads to `post`."""
    known = {id(x) for x in inputs}
    seen, ahead = set(), [post.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        weight = isinstance(variable, torch.nn.Parameter)
        if variable is not None and not weight and id(variable) not in known:
            return True
        ahead += [following for following, _ in node.next_functions]
    return False


def leaf(kept: dict[str, torch.Tensor], name: str) -> Hook:
    """A hook that passes a leaf on and keeps it: what follows is differentiated from there."""

    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        kept[name] = activation.detach().requires_grad_()
        return kept[name]

    return hook


def _keep(kept: dict[int, torch.Tensor], layer: int) -> Callable[..., None]:
    def hook(activation: torch.Tensor, hook: object) -> None:
        kept[layer] = activation

    return hook
