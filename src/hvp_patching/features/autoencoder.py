"""A sparse autoencoder of the residual stream: x = Σ codes_j · W_dec[j] + offset + error."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hvp_patching.models.errors import ModelError

ACTIVATIONS = ("relu", "jumprelu", "topk")
NORMALISATIONS = ("none", "constant_norm_rescale", "layer_norm")
HOOK = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|mid|post)")
LAYER_NORM_EPS = 1e-5  # sae-lens's
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Kind:
    """What an autoencoder computes beside its weights.

    hook: full TransformerLens name of where it reads; activation: one of ACTIVATIONS; k: active
    features of 'topk'; subtracts_bias: b_dec is taken off before encoding; normalisation: one of
    NORMALISATIONS, of the input; centred: the mean over the width is taken off first.
    """

    hook: str
    activation: str = "relu"
    k: int = 0
    subtracts_bias: bool = True
    normalisation: str = "none"
    centred: bool = False

    @property
    def layer(self) -> int:
        """The block of its hook; ModelError for a hook that is none of the residual stream."""
        return layer_of_hook(self.hook)


def layer_of_hook(hook: str) -> int:
    """The block of a hook of the residual stream; ModelError for any other."""
    found = HOOK.fullmatch(str(hook))
    if not found:
        raise ModelError(
            f"an autoencoder at {hook!r}: features are patched in the residual stream, at "
            "blocks.LAYER.hook_resid_pre, _mid or _post"
        )
    return int(found[1])


class SparseAutoencoder(torch.nn.Module):
    """Codes of activations, and what the codes stand for in the residual stream.

    weights: W_enc [d_in, n_features], W_dec [n_features, d_in], b_enc [n_features], b_dec [d_in],
    and threshold [n_features] of 'jumprelu'. No gradients. ModelError where they do not fit.
    """

    W_enc: torch.Tensor
    W_dec: torch.Tensor
    b_enc: torch.Tensor
    b_dec: torch.Tensor
    threshold: torch.Tensor

    def __init__(self, kind: Kind, weights: Weights, name: str = "the autoencoder") -> None:
        super().__init__()
        check_kind(kind, name)
        check_weights(kind, weights, name)
        self.kind, self.name = kind, name
        for key, value in weights.items():
            self.register_buffer(key, value.detach().contiguous())
        self.identity = identity(kind, weights)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.W_dec.shape[0])

    @property
    def d_in(self) -> int:
        """Width of the activation it reads."""
        return int(self.W_dec.shape[1])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes [..., n_features] of activations [..., d_in], in units of decoder rows.

        Where the input is normalised, codes are scaled back: Σ codes_j · W_dec[j] lies in the
        residual stream itself.
        """
        y, scale = self._normalised(self._moved(x))
        pre = (y - self.b_dec if self.kind.subtracts_bias else y) @ self.W_enc + self.b_enc
        return self._active(pre) * scale

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """What the codes of x say of x, [..., d_in]; x minus that is the error term."""
        _, scale = self._normalised(self._moved(x))
        return self.encode(x) @ self.W_dec + self.b_dec * scale + (x - self._deviation(x))

    def _moved(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(-1, keepdim=True) if self.kind.centred else x

    def _deviation(self, x: torch.Tensor) -> torch.Tensor:
        """x less what passes by the autoencoder: the mean that centring or layer norm takes off."""
        passes = self.kind.centred or self.kind.normalisation == "layer_norm"
        return x - x.mean(-1, keepdim=True) if passes else x

    def _normalised(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The encoder's input, and what its units are worth, [..., 1]."""
        if self.kind.normalisation == "constant_norm_rescale":
            scale = x.norm(dim=-1, keepdim=True) / self.d_in**0.5
            return x / scale.clamp_min(torch.finfo(x.dtype).tiny), scale
        if self.kind.normalisation == "layer_norm":
            x = x - x.mean(-1, keepdim=True)
            std = x.std(-1, keepdim=True)
            return x / (std + LAYER_NORM_EPS), std
        return x, x.new_ones(*x.shape[:-1], 1)

    def _active(self, pre: torch.Tensor) -> torch.Tensor:
        if self.kind.activation == "jumprelu":
            return pre.relu() * (pre > self.threshold)
        if self.kind.activation == "topk":
            top = pre.topk(self.kind.k, dim=-1)
            return torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
        return pre.relu()


def check_kind(kind: Kind, name: str) -> None:
    """ModelError for a hook, activation or normalisation that is not known here."""
    layer_of_hook(kind.hook)
    for what, value, known in (
        ("activation", kind.activation, ACTIVATIONS),
        ("normalisation", kind.normalisation, NORMALISATIONS),
    ):
        if value not in known:
            raise ModelError(f"{name} has the {what} {value!r}; known: {', '.join(known)}")


def check_weights(kind: Kind, weights: Weights, name: str) -> None:
    """ModelError where tensors are missing, of another shape or kind, or not finite."""
    wanted = ["W_enc", "W_dec", "b_enc", "b_dec"]
    wanted += ["threshold"] * (kind.activation == "jumprelu")
    missing = [key for key in wanted if key not in weights]
    odd = [key for key in weights if key not in wanted]
    if missing or odd:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing)
        parts += [f"has {', '.join(odd)}"] * bool(odd)
        raise ModelError(f"{name} {' and '.join(parts)}; its tensors are {', '.join(wanted)}")
    n, d = weights["W_dec"].shape if weights["W_dec"].ndim == 2 else (0, 0)
    shapes = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,), "threshold": (n,)}
    for key in wanted:
        value = weights[key]
        if tuple(value.shape) != shapes[key] or not value.numel():
            raise ModelError(
                f"{name}: {key} is {tuple(value.shape)} beside W_dec "
                f"{tuple(weights['W_dec'].shape)}; W_dec is [features, width] and {key} "
                f"{shapes[key]} then"
            )
        if not value.is_floating_point() or not bool(value.isfinite().all()):
            raise ModelError(
                f"{name}: {key} holds {'NaN or infinite' if value.is_floating_point() else 'whole'}"
                " numbers; fetch it again"
            )
    if kind.activation == "topk" and not 1 <= kind.k <= n:
        raise ModelError(f"{name}: k = {kind.k} of {n} features; it lies between 1 and {n}")


def check_fits(autoencoder: SparseAutoencoder, model: Any) -> None:
    """ModelError where the model has another width, or not the autoencoder's hook."""
    width, layers, kind = int(model.cfg.d_model), int(model.cfg.n_layers), autoencoder.kind
    if autoencoder.d_in != width:
        raise ModelError(
            f"{autoencoder.name} is {autoencoder.d_in} wide and the model's residual stream "
            f"{width}; give an autoencoder of this model"
        )
    if kind.layer >= layers:
        raise ModelError(
            f"{autoencoder.name} reads {kind.hook}, but the model has {layers} layers; give an "
            "autoencoder of this model"
        )


def identity(kind: Kind, weights: Weights) -> str:
    """sha256 over what an autoencoder computes: its kind and every tensor, as float64."""
    digest = hashlib.sha256(repr(sorted(asdict(kind).items())).encode())
    for key, value in sorted(weights.items()):
        digest.update(f"\n{key} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().double().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
