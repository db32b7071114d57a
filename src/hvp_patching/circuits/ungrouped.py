"""The model on which every edge exists: a head's own keys and values, and hooks at every input.

Grouped queries share keys and values. A copy of such a model repeats the rows of its key and value
projections for every query head, which changes no logit; all other weights are the model's own
memory. The bridge's hooks for single heads are switched on only inside `edge_model`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from hvp_patching.failures import architecture, one_line
from hvp_patching.models.identity import current_identity, fingerprint
from hvp_patching.models.wrapping import wrap
from hvp_patching.paths.precision import keep_precision, tolerance
from hvp_patching.sites import run_model

FLAGS = ("use_attn_in", "use_attn_result", "use_split_qkv_input", "use_hook_mlp_in")
WRAPPER = "_original_component"  # what TransformerLens puts between a module and its parts
_COPIES: WeakKeyDictionary[Any, tuple[str, Any]] = WeakKeyDictionary()


@contextmanager
def edge_model(model: Any) -> Iterator[Any]:
    """The model itself, or its ungrouped copy, with the hooks of single edges switched on.

    ValueError where the bridge has no such hooks for this architecture, or the copy is not the
    model.
    """
    found = ungrouped(model)
    with split_hooks(found):
        yield found


@contextmanager
def split_hooks(model: Any) -> Iterator[None]:
    """hook_result, hook_q_input, hook_k_input, hook_v_input and hook_mlp_in, on until the end."""
    before = {flag: bool(getattr(model.cfg, flag, False)) for flag in FLAGS}
    try:
        try:
            for flag in FLAGS:
                getattr(model, f"set_{flag}")(flag != "use_attn_in")
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{architecture(model)} has no hooks for single edges in TransformerLens: "
                f"{one_line(error)}"
            ) from error
        yield
    finally:
        for flag in reversed(FLAGS):
            getattr(model, f"set_{flag}", lambda on: None)(before[flag])


@contextmanager
def single_inputs(model: Any, on: bool) -> Iterator[None]:
    """Heads' own inputs on or off for a while, the other hooks as they are."""
    before = bool(model.cfg.use_split_qkv_input)
    model.set_use_split_qkv_input(on)
    try:
        yield
    finally:
        model.set_use_split_qkv_input(before)


def ungrouped(model: Any) -> Any:
    """The model, or where query heads share keys and values a copy in which none do.

    The copy is kept while the model lives and its weights stay as they are. ValueError where it
    cannot be made.
    """
    heads, shared = int(model.cfg.n_heads), getattr(model.cfg, "n_key_value_heads", None)
    if shared is None or int(shared) == heads:
        return model
    _check_unhooked(model)
    now = fingerprint(model)
    known, found = _COPIES.get(model, ("", None))
    if found is None or known != now:
        _COPIES.pop(model, None)  # two copies would not fit where one does
        found = _copy(model, heads, int(shared))
        _check_equal(model, found)
        _COPIES[model] = now, found
    return found


def _check_unhooked(model: Any) -> None:
    """ValueError where the model has hooks of the caller's, which the copy would not have."""
    for name, point in model.hook_dict.items():
        if point.fwd_hooks or point.bwd_hooks:
            raise ValueError(
                f"the model has a hook of its own at {name}, which its copy with keys and values "
                "for every head would lack; remove it by model.reset_hooks()"
            )


def _copy(model: Any, heads: int, shared: int) -> Any:
    original = model.original_model
    config = copy.deepcopy(original.config)
    config.get_text_config().num_key_value_heads = heads
    weights = _weights(original)
    try:
        fresh = _empty(type(original), config, model.cfg.dtype)
        _fill(fresh, weights, heads // shared, int(model.cfg.d_head))
    except Exception as error:
        raise ValueError(
            f"{architecture(model)} shares keys and values between heads and cannot be ungrouped: "
            f"{one_line(error)}"
        ) from error
    device = next(model.parameters()).device
    tokenizer = copy.deepcopy(model.tokenizer)
    identity = current_identity(model)
    return wrap(fresh, tokenizer, model.hvp_spec, identity, model.cfg.dtype, device)


def _empty(kind: type[PreTrainedModel], config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """A model of the class whose weights are still to be given; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        made: Any = kind
        fresh: PreTrainedModel = made._from_config(config, attn_implementation="eager", dtype=dtype)
    return fresh


def _weights(original: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Parameters and buffers by the names that they have in the model without the bridge.

    Buffers that checkpoints leave out are among them: they were rounded when the model was made.
    """
    found: dict[str, torch.Tensor] = {}
    named = (
        *torch.nn.Module.named_parameters(original, remove_duplicate=False),
        *torch.nn.Module.named_buffers(original, remove_duplicate=False),
    )
    for key, tensor in named:
        found.setdefault(".".join(part for part in key.split(".") if part != WRAPPER), tensor)
    return found


def _fill(fresh: PreTrainedModel, weights: dict[str, torch.Tensor], times: int, width: int) -> None:
    """Give the copy the model's weights: its memory, and repeated rows for keys and values."""
    for key, own in (*fresh.named_parameters(), *fresh.named_buffers()):
        if key not in weights:
            raise ValueError(f"no weight {key} in the model")
        given = weights[key].detach()
        own.data = given if given.shape == own.shape else _repeated(key, given, own, times, width)
    fresh.tie_weights()


def _repeated(
    key: str, given: torch.Tensor, wanted: torch.Tensor, times: int, width: int
) -> torch.Tensor:
    """Rows [n_shared · d_head, ...] of keys or values for every query head that shares them."""
    grouped = given.reshape(-1, width, *given.shape[1:]) if len(given) % width == 0 else given
    repeated = grouped.repeat_interleave(times, 0).flatten(0, 1)
    if repeated.shape != wanted.shape:
        raise ValueError(f"{key} is {list(given.shape)} where {list(wanted.shape)} is needed")
    return repeated


def _check_equal(model: Any, found: Any) -> None:
    """ValueError unless the copy gives the model's logits on the vocabulary's first tokens."""
    ids = torch.arange(min(8, int(model.cfg.d_vocab)), device=next(model.parameters()).device)
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        a, b = (run_model(each, ids[None], use_cache=False) for each in (model, found))
    off = float((a - b).abs().max())
    if not off <= tolerance(model.cfg.dtype) * max(1.0, float(a.abs().max())):
        raise ValueError(
            f"the copy of {architecture(model)} with keys and values for every head differs by "
            f"{off:.2g} in the logits: hooks or processed weights of the model are not in it"
        )
