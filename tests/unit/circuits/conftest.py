"""An oracle for edges: plain forward passes of the model as it is, grouped heads and all.

No hook of single heads' inputs, no ungrouped copy, no prefix cache, no autograd: the input of a
norm is moved, and what one head alone may see is carried over by its attention scores or output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from hvp_patching.models.tiny import FAMILIES as TINY
from hvp_patching.paths.precision import keep_precision
from hvp_patching.prompts.pair import TokenPair

FAMILIES = tuple(TINY)
Hooks = list[tuple[str, Callable[..., Any]]]
STEPS = torch.tensor([0.016, 0.008, 0.004], dtype=torch.float64)


def limit(estimates: torch.Tensor) -> float:
    """The limit of estimates at steps h, h/2 and h/4 whose error is a series in h²."""
    a, b, c = estimates.tolist()
    return (64 * c - 20 * b + a) / 45


def shifted(shift: torch.Tensor) -> Callable[..., Any]:
    """A hook that adds `shift`, [rows or 1, n_pos, d]."""
    return lambda x, hook: x + shift


def gemma_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """x (1 + w) / rms(x)."""
    return x * (1 + norm.weight) * (x.square().mean(-1, keepdim=True) + norm.eps).rsqrt()


class PlainEdges:
    """m of runs in which edges are patched, in float64; t holds one row's step each."""

    def __init__(self, model: Any, pair: TokenPair) -> None:
        self.model, self.pair, self.heads = model, pair, model.cfg.n_heads
        self.layers = model.cfg.n_layers
        self.clean, self.corrupted = (
            torch.tensor([i]) for i in (pair.clean_ids, pair.corrupted_ids)
        )
        a, b = self.writers(self.clean), self.writers(self.corrupted)
        self.delta = {name: b[name] - a[name] for name in a}
        self.layer_delta: dict[str, torch.Tensor] = {}
        for layer, block in enumerate(model.blocks):
            names = [f"a{layer}.h{head}" for head in range(self.heads)]
            self.layer_delta[f"a{layer}"] = sum(self.delta[name] for name in names)
            if hasattr(block, "ln1_post"):  # a head is corrupted, the norm is of the whole sum
                norm, (old, new) = (
                    block.ln1_post.original_component,
                    (sum(run[name] for name in names) for run in (a, b)),
                )
                start = gemma_norm(norm, old)
                self.layer_delta[f"a{layer}"] = gemma_norm(norm, new) - start
                self.delta |= {n: gemma_norm(norm, old + self.delta[n]) - start for n in names}

    def logits(self, ids: torch.Tensor, hooks: Hooks = ()) -> torch.Tensor:
        """Last-position logits [rows, vocabulary]."""
        with torch.no_grad(), keep_precision(self.model.cfg.dtype):
            return self.model.run_with_hooks(ids, fwd_hooks=list(hooks))[:, -1]

    def m(self, hooks: Hooks = (), rows: int = 1, ids: torch.Tensor | None = None) -> torch.Tensor:
        """Logit difference of every row."""
        ids = self.clean if ids is None else ids
        logits = self.logits(ids.expand(rows, -1), hooks)
        return logits[:, self.pair.target_ids[0]] - logits[:, self.pair.foil_ids[0]]

    def seen(self, names: Sequence[str], hooks: Hooks = (), rows: int = 1, ids: Any = None) -> Any:
        """Activations at the named hooks."""
        found: dict[str, torch.Tensor] = {}

        def keep(x: torch.Tensor, hook: Any, name: str = "") -> None:
            found[name] = x.clone()

        last = [(name, lambda x, hook, name=name: keep(x, hook, name)) for name in names]
        ids = self.clean if ids is None else ids
        self.logits(ids.expand(rows, -1), [*hooks, *last])
        return [found[name] for name in names]

    def writers(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """What every writer puts out, heads before a norm that may follow, [n_pos, d]."""
        found = {"input": self.seen(["blocks.0.hook_in"], ids=ids)[0][0]}
        for layer in range(self.layers):
            block = self.model.blocks[layer]
            names = [f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_mlp_out"]
            z, mlp = self.seen(names, ids=ids)
            weight = block.attn.o.original_component.weight
            weight = (
                weight if type(block.attn.o.original_component).__name__ == "Conv1D" else weight.T
            )
            parts = weight.unflatten(0, (self.heads, -1))  # [head, d_head, d]
            results = torch.einsum("phe,hed->phd", z[0], parts)
            found |= {f"a{layer}.h{head}": results[:, head] for head in range(self.heads)}
            found[f"m{layer}"] = mlp[0]
        return found

    def whole(self, reader: str) -> torch.Tensor:
        """The reader's whole change, [n_pos, d]: that of all layers before it."""
        last = self.layers if reader == "logits" else int(reader[1:].partition(".")[0])
        total = self.delta["input"]
        for layer in range(last):
            total = total + self.layer_delta[f"a{layer}"] + self.delta[f"m{layer}"]
        if reader[0] == "m" and not self.model.cfg.parallel_attn_mlp:
            total = total + self.layer_delta[f"a{last}"]
        return total

    def norm(self, reader: str) -> str:
        """The hook of the norm that the reader's input goes into."""
        if reader == "logits":
            return "ln_final.hook_in"
        layer = int(reader[1:].partition(".")[0])
        return f"blocks.{layer}.ln{1 if reader[0] == 'a' else 2}.hook_in"

    def joint(self, t: float) -> Hooks:
        """Every reader moves by t times its whole change."""
        readers = [f"{kind}{layer}" for layer in range(self.layers) for kind in ("a", "m")]
        return [(self.norm(r), shifted(t * self.whole(r))) for r in (*readers, "logits")]

    def input(self, t: float) -> Hooks:
        """The embedding moves by t times its change."""
        return [("blocks.0.hook_in", shifted(t * self.delta["input"]))]

    def f(
        self, writer: str | torch.Tensor, reader: str, t: torch.Tensor, base: Hooks = ()
    ) -> torch.Tensor:
        """m with t · δ_u added to the reader's input alone, one row a step; base: other hooks."""
        delta = self.delta[writer] if isinstance(writer, str) else writer
        steps = t.view(-1, 1, 1) * delta
        base, rows = list(base), len(t)
        move = (self.norm(reader), shifted(steps))
        if "<" not in reader:
            return self.m([*base, move], rows)
        layer, head = (int(x) for x in reader.partition("<")[0][1:].split(".h"))
        kind = reader[-2]
        attn = f"blocks.{layer}.attn."
        (moved,) = self.seen([f"{attn}hook_{kind}"], [*base, move], rows)
        swapped = (f"{attn}hook_{kind}", lambda x, hook: moved)
        through = f"{attn}hook_z" if kind == "v" else f"{attn}hook_attn_scores"
        (carried,) = self.seen([through], [*base, swapped], rows)

        def one_head(x: torch.Tensor, hook: Any) -> torch.Tensor:
            x = x.clone()
            where = (slice(None), slice(None), head) if kind == "v" else (slice(None), head)
            x[where] = carried[where]
            return x

        return self.m([*base, (through, one_head)], rows)

    def slope(self, writer: Any, reader: str, base: Hooks = ()) -> float:
        """f'(0) by central differences at three steps and Richardson's limit."""
        up, down = self.f(writer, reader, torch.cat([STEPS, -STEPS]), base).chunk(2)
        return limit((up - down) / (2 * STEPS))

    def curvature(self, writer: Any, reader: str) -> float:
        """f''(0), likewise."""
        steps = torch.cat([STEPS, -STEPS, torch.zeros(1)])
        *ends, zero = self.f(writer, reader, steps).split([3, 3, 1])
        return limit((sum(ends) - 2 * zero) / STEPS**2)

    def mixed(self, writer: str, reader: str, path: Callable[[float], Hooks]) -> float:
        """The change of f'(0) along a path that moves the whole run, at its start."""
        wide, narrow = (
            (self.slope(writer, reader, path(h)) - self.slope(writer, reader, path(-h))) / (2 * h)
            for h in (0.01, 0.005)
        )
        return (4 * narrow - wide) / 3


@pytest.fixture(scope="session")
def edge_pair(make_pair):
    """A pair with a target and a foil, two of whose tokens are changed."""
    from dataclasses import replace

    return replace(make_pair((4, 6), n=9), foil_ids=(23,))


@pytest.fixture(scope="session")
def plain(tiny, edge_pair):
    """The oracle of a tiny model."""
    import functools

    return functools.cache(lambda name: PlainEdges(tiny(name), edge_pair))
