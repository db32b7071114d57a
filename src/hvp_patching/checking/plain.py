"""The oracle: plain forward passes of a float64 model with plain hooks.

It shares no code with the engine (``paths``) or with what it checks: no prefix cache, no rows that
join on the way, no Taylor arithmetic, no derivative; every row of a batch is the whole prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from hvp_patching.prompts.pair import ZERO_CORRUPTION, TokenPair

# hook, and the axis of components in [row, position, ...]: the oracle's own list
HOOKS: dict[str, tuple[str, int | None]] = {
    "attn_heads": ("blocks.{}.attn.hook_z", -2),
    "mlp_pre": ("blocks.{}.mlp.hook_pre", -1),
    "mlp_post": ("blocks.{}.mlp.hook_post", -1),
    "mlp_out": ("blocks.{}.hook_mlp_out", None),
    "resid_post": ("blocks.{}.hook_resid_post", None),
    **{node: (f"blocks.{{}}.attn.hook_{node}", -2) for node in "qkv"},
    **{at: (f"blocks.{{}}.hook_{at}", None) for at in ("resid_pre", "resid_mid")},
    "attn_out": ("blocks.{}.hook_attn_out", None),
}
BATCH_BYTES = 2**28  # of float64 activations and logits in one batch
Hooks = Sequence[tuple[str, Callable[..., Any]]]


class Unhooked(ValueError):
    """A site that the oracle does not know."""


class _Float64(TorchFunctionMode):
    """No cast of float64 to float32, which models make in norms and softmaxes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            single = torch.float32 in (*(a for a in args[1:] if isinstance(a, torch.dtype)),)
            single = single or options.get("dtype") == torch.float32
            if name == "float" or (name in {"to", "type"} and single):
                return args[0]
            if "softmax" in name and single:
                options["dtype"] = torch.float64
        return func(*args, **options)


@dataclass(frozen=True)
class Move:
    """A row of a batch: the site's activation in ``layer`` plus ``shift`` [n_pos, …].

    relative: plus ``shift`` times the activation, which at shift −1 leaves exactly nothing.
    """

    layer: int
    shift: torch.Tensor
    relative: bool = False


class PlainPaths:
    """One prompt pair at one site, by forward passes of ``model``, which must be in float64.

    a, delta: per layer the base run's activation and a' − a, [n_pos, …]. Unhooked for a site that
    the oracle does not know.
    """

    def __init__(self, model: Any, tokens: TokenPair, site: str, direction: str) -> None:
        if site not in HOOKS:
            raise Unhooked(f"the check knows no site '{site}'; it knows: {', '.join(HOOKS)}")
        self.model, self.site = model, site
        self.layers = range(int(model.cfg.n_layers))
        self.axis = HOOKS[site][1]
        device = next(model.parameters()).device
        sides = [torch.tensor([s], device=device) for s in (tokens.clean_ids, tokens.corrupted_ids)]
        self.ids, self.other = sides if direction == "noising" else sides[::-1]
        self.targets = torch.tensor(tokens.target_ids, device=device)
        self.a = self.read(self.ids, site)
        self.to_zero = tokens.corruption == ZERO_CORRUPTION
        if self.to_zero:
            self.delta = [-a for a in self.a]
        else:
            self.delta = [b - a for a, b in zip(self.a, self.read(self.other, site), strict=True)]

    def read(self, ids: torch.Tensor, site: str) -> list[torch.Tensor]:
        """The site's activation in every layer, [n_pos, …], of an unpatched run."""
        return self.read_hooks(ids, [self.hook(site, layer) for layer in self.layers])

    def read_hooks(self, ids: torch.Tensor, names: Sequence[str]) -> list[torch.Tensor]:
        """What some hooks hold in an unpatched run, without the batch."""
        found: dict[int, torch.Tensor] = {}
        self._run(ids, [(name, reader(found, i)) for i, name in enumerate(names)])
        return [found[i][0] for i in range(len(names))]

    def hook(self, site: str, layer: int) -> str:
        """Full name of a site's hook."""
        return HOOKS[site][0].format(layer)

    def component(self, layer: int, index: int, like: torch.Tensor | None = None) -> torch.Tensor:
        """δ (or ``like``) at one component and zero elsewhere, [n_pos, …]."""
        whole = self.delta[layer] if like is None else like
        if self.axis is None:
            return whole
        out = torch.zeros_like(whole)
        out.select(self.axis, index).copy_(whole.select(self.axis, index))
        return out

    def move(self, layer: int, index: int, t: float) -> Move:
        """The run at a + tδ of one component."""
        if self.to_zero:
            mask = self.component(layer, index, torch.ones_like(self.a[layer]))
            return Move(layer, -t * mask, relative=True)
        return Move(layer, t * self.component(layer, index))

    def logits(self, moves: Sequence[Move], hooks: Hooks = (), first: Hooks = ()) -> torch.Tensor:
        """Last-position logits of each move's run, float64 [n_moves, vocabulary], on the CPU.

        ``hooks`` run after the moves, ``first`` before; both see a batch of rows.
        """
        return torch.cat(list(self._batches(moves, hooks, first)))

    def gradients(self, moves: Sequence[Move]) -> torch.Tensor:
        """∂m/∂(activation) of each move's run at its layer, [n_moves, n_pos, …], on the CPU.

        By one plain reverse pass; gradients do not arrive at the bridge's converted hooks, so a
        zero is added there.
        """
        parts = []
        for start in range(0, len(moves), max(1, self.rows_per_batch // 4)):
            batch = moves[start : start + max(1, self.rows_per_batch // 4)]
            zero = torch.zeros(len(batch), *self.a[0].shape, dtype=torch.float64)
            zero = zero.to(self.ids.device).requires_grad_()
            hooks = [
                (self.hook(self.site, layer), _shifter(batch, layer, zero))
                for layer in sorted({move.layer for move in batch})
            ]
            with torch.enable_grad():
                logits = self._run(self.ids.expand(len(batch), -1), hooks, grad=True)
                chosen = logits[:, self.targets].logsumexp(-1) - logits.logsumexp(-1)
                (gradient,) = torch.autograd.grad(chosen.sum(), zero)
            parts.append(gradient.cpu())
        return torch.cat(parts)

    def metric(self, logits: torch.Tensor) -> torch.Tensor:
        """m, the log-probability of the target set, [n_moves]."""
        chosen = logits[:, self.targets.cpu()]
        return chosen.logsumexp(-1) - logits.logsumexp(-1)

    def _batches(self, moves: Sequence[Move], hooks: Hooks, first: Hooks) -> Iterator[torch.Tensor]:
        size = self.rows_per_batch
        for start in range(0, len(moves), size):
            batch = moves[start : start + size]
            added = [
                (self.hook(self.site, layer), _shifter(batch, layer))
                for layer in sorted({move.layer for move in batch})
            ]
            ids = self.ids.expand(len(batch), -1)
            yield self._run(ids, [*first, *added, *hooks]).cpu()

    @property
    def rows_per_batch(self) -> int:
        """How many runs fit into BATCH_BYTES."""
        cfg = self.model.cfg
        width = 16 * int(cfg.d_model) + 8 * int(cfg.d_mlp or 4 * cfg.d_model)
        scores = int(cfg.n_heads) * self.ids.shape[1]
        per_row = 8 * (self.ids.shape[1] * (width + 4 * scores) + 2 * int(cfg.d_vocab))
        return max(1, BATCH_BYTES // per_row)

    def _run(self, ids: torch.Tensor, hooks: Hooks, grad: bool = False) -> torch.Tensor:
        with torch.set_grad_enabled(grad), _Float64():
            logits: torch.Tensor = self.model.run_with_hooks(
                ids,
                fwd_hooks=list(hooks),
                use_cache=False,
                logits_to_keep=1,
                return_type="logits",
            )
        last: torch.Tensor = logits[:, -1]
        return last


def reader(found: dict[int, torch.Tensor], layer: int) -> Callable[..., None]:
    """A hook that keeps the activation, all rows of it."""

    def hook(activation: torch.Tensor, hook: Any) -> None:
        found[layer] = activation.detach().clone()

    return hook


def _shifter(
    batch: Sequence[Move], layer: int, zero: torch.Tensor | None = None
) -> Callable[..., torch.Tensor]:
    rows = [i for i, move in enumerate(batch) if move.layer == layer]

    def hook(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        moved = activation.clone()
        for i in rows:
            shift = batch[i].shift
            moved[i] += shift * activation[i] if batch[i].relative else shift
            if zero is not None:
                moved[i] += zero[i]
        return moved

    return hook
