"""What a hook holds on texts, and what a model predicts where a hook's activation is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch

from hvp_patching.isolation import isolated
from hvp_patching.paths.precision import keep_precision

BATCH = 16  # texts at once
Replace = Callable[[torch.Tensor], torch.Tensor]  # of activations [..., d]


class _Seen(Exception):
    """The hook has run: nothing behind it is wanted."""


@isolated()
def activations(
    model: Any,
    ids: torch.Tensor,
    hook: str,
    advance: Callable[[int], Any] = lambda tokens: None,
) -> torch.Tensor:
    """The hook's activations on texts [n, length], float32 [n · (length − 1), d], on the CPU.

    First positions are left out: they are attention sinks of a norm of their own. The layers
    behind the hook do not run.
    """
    parts = []
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        for batch in torch.split(ids, BATCH):
            found: list[torch.Tensor] = []

            def keep(activation: torch.Tensor, hook: Any, found: Any = found) -> None:
                found.append(activation[:, 1:].float().cpu())
                raise _Seen

            with suppress(_Seen):
                model.run_with_hooks(
                    batch.to(next(model.parameters()).device),
                    fwd_hooks=[(hook, keep)],
                    use_cache=False,
                    return_type="logits",
                )
            parts.append(found[0].flatten(0, 1))
            advance(batch.shape[0] * (batch.shape[1] - 1))
    return torch.cat(parts)


def losses(model: Any, ids: torch.Tensor, hook: str, replace: Replace | None) -> torch.Tensor:
    """Cross-entropy of every next token, nats [n, length − 1], on the CPU.

    replace: gives what stands at the hook in the place of its activation, from the second
    position on.
    """

    def put(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        assert replace is not None
        return torch.cat([activation[:, :1], replace(activation[:, 1:])], dim=1)

    return torch.cat(list(_losses(model, ids, [(hook, put)] if replace else [])))


@isolated()
def _one(model: Any, batch: torch.Tensor, hooks: list[Any]) -> torch.Tensor:
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        logits = model.run_with_hooks(
            batch.to(next(model.parameters()).device),
            fwd_hooks=hooks,
            use_cache=False,
            return_type="logits",
        )
        shifted = logits[:, :-1].float().cpu().transpose(1, 2)
        return torch.nn.functional.cross_entropy(shifted, batch[:, 1:], reduction="none")


def _losses(model: Any, ids: torch.Tensor, hooks: list[Any]) -> Iterator[torch.Tensor]:
    for batch in torch.split(ids, BATCH // 2):
        yield _one(model, batch, hooks)
