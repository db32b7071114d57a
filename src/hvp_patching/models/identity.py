"""What makes two models the same model: a sha256 over configuration and weights.

The store's keys begin with it, so it must change whenever an output could.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import torch
import xxhash
from transformers import PreTrainedModel

from hvp_patching.models.content import config_bytes
from hvp_patching.models.errors import ModelError


def memory_identity(model: PreTrainedModel) -> str:
    """sha256 over configuration and every weight (name, dtype, shape, bytes) of a loaded model.

    Taken before any change of dtype, and before TransformerLens wraps the modules.
    """
    digest = hashlib.sha256(config_bytes(model.config.to_dict()))
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"\n{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(_raw(value))
    return digest.hexdigest()


def record_identity(model: Any, identity: str) -> None:
    """Name a wrapped model's weights as they are now: `hvp_identity`, and what proves them."""
    model.hvp_identity = identity
    model.hvp_fingerprint = fingerprint(model)


# The identities that were told while `shared_identities` is open.
_SHARED: ContextVar[WeakKeyDictionary[Any, str] | None] = ContextVar("identities", default=None)


@contextmanager
def shared_identities() -> Iterator[None]:
    """Inside, the weights of a model are read once, when its identity is first asked for.

    For callers that know the model stays as it is, as those of `shared_base_runs`.
    """
    token = _SHARED.set(WeakKeyDictionary())
    try:
        yield
    finally:
        _SHARED.reset(token)


def current_identity(model: Any) -> str:
    """The identity of a wrapped model's weights as they are now.

    `model.hvp_identity` while they are those of load time; another one, the same for the same
    edit, once a weight was changed in place or replaced, or the configuration was changed. Reads
    every weight once (about 10 GB/s on a CPU). Raises ModelError for a model without identity.
    """
    shared = _SHARED.get()
    if shared is None:
        return _identity_now(model)
    if model not in shared:
        shared[model] = _identity_now(model)
    return shared[model]


def _identity_now(model: Any) -> str:
    identity = getattr(model, "hvp_identity", None)
    if identity is None:
        raise ModelError(
            "the model carries no hvp_identity, which names its weights: load it with "
            "hvp_patching.load_model, or wrap it with hvp_patching.from_huggingface"
        )
    loaded = getattr(model, "hvp_fingerprint", None)
    now = fingerprint(model) if loaded is not None else None
    if now == loaded:
        return str(identity)
    return hashlib.sha256(f"{identity} edited to {now}".encode()).hexdigest()


def fingerprint(model: Any) -> str:
    """128 bits over the configuration and every weight that the wrapped model computes with.

    Bytes, not version counters: an edit through `.data` leaves those as they are.
    """
    digest = xxhash.xxh3_128(config_bytes(model.original_model.config.to_dict()))
    for key, tensor in _weights(model):
        digest.update(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_raw(tensor if tensor.device.type == "cpu" else _digest_on_device(tensor)))
    return digest.hexdigest()


def _weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and persistent buffers of the model and of the one below it, each memory once.

    Rotary frequencies and the like are left out: some models rewrite them as they run.
    """
    seen = set()
    for root, owner in (("model", model), ("original", model.original_model)):
        for prefix, module in torch.nn.Module.named_modules(owner):
            own = {k: v for k, v in module._parameters.items() if v is not None}
            fleeting = module._non_persistent_buffers_set
            own |= {k: v for k, v in module._buffers.items() if v is not None and k not in fleeting}
            for key, tensor in own.items():
                place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
                if place not in seen:
                    seen.add(place)
                    yield f"{root}.{prefix}.{key}", tensor.detach()


def _digest_on_device(tensor: torch.Tensor) -> torch.Tensor:
    """XOR of the bits along every axis: small enough to be brought over."""
    table = tensor.reshape(tensor.shape[0], -1) if tensor.ndim > 1 else tensor.reshape(1, -1)
    along = [torch.hash_tensor(table, dim=axis).view(torch.int64) for axis in (0, 1)]
    return torch.cat(along)


def _raw(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
