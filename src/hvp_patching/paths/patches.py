"""Patches: what one row adds to the unpatched run, and where.

Sites, positions, features and edges are makers of patches; the engine knows nothing else.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from hvp_patching.paths.run import BaseRun
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.sites import Component, Hooks, Site, layer_of, n_layers, resolve_components

EACH = "each"
Positions = str | Iterable[int] | None


@dataclass(frozen=True, eq=False)
class Patch:
    """The direction δ of one path a + tδ, and the hook where it is added.

    hook: full TransformerLens name, such as 'blocks.3.hook_resid_post', whose activation is
    [batch, position, ...]; layer: its block; direction: δ in the activation's shape without the
    batch, [n_pos, ...] over the prompt, or [n_suffix, ...] from the first changed token on.
    part: index into what lies behind the position, where the direction then lies ((3,) for head 3
    of hook_z); position: the one position, counted with BOS, where it lies, without that dimension
    then; index: the component's number in tables, by default that of the patch in its list.
    ablates: δ is minus the run's own activation, to the last bit (zero corruption).
    """

    hook: str
    layer: int
    direction: torch.Tensor
    part: tuple[Any, ...] = ()
    index: int | None = None
    position: int | None = None
    ablates: bool = False

    @property
    def label(self) -> tuple[int | None, ...]:
        """(layer, index), and the position where it is one."""
        place = (self.layer, self.index)
        return place if self.position is None else (*place, self.position)

    def where(self, start: int) -> tuple[Any, ...]:
        """Index of the patched part of an activation [n_suffix, ...] that begins at `start`."""
        position = slice(None) if self.position is None else self.position - start
        return (position, *self.part)

    def put(self, row: torch.Tensor, activation: torch.Tensor, start: int) -> None:
        """Write δ into a row of zeros; both are [n_suffix, ...]."""
        if self.is_before(start):
            return
        where = self.where(start)
        row[where] = -activation[where] if self.ablates else self.direction

    def is_before(self, start: int) -> bool:
        """Whether it lies at a position before the first changed token, where δ = 0."""
        return self.position is not None and self.position < start


def site_patches(
    run: BaseRun, components: Sequence[Component], positions: Sequence[int] | None = None
) -> list[Patch]:
    """The patches of a site's components along the run's δ, at all positions or each of some.

    In the order of `components`, positions within. The directions are views of the run's δ.
    """
    patches = []
    for layer, index in components:
        name, part, delta = run.names[layer], _site(run).part(index), run.delta[layer][0]
        for position in [None] if positions is None else positions:
            patch = Patch(name, layer, delta, part, index, position, run.to_zero)
            if patch.is_before(run.start):
                direction = torch.zeros_like(delta[0][part])
            else:
                direction = delta[patch.where(run.start)]
            patches.append(replace(patch, direction=direction))
    return patches


def requested_patches(run: BaseRun, components: Any, positions: Positions = None) -> list[Patch]:
    """The patches of a request at a site: components, and the positions of each of them.

    components: as in resolve_components; a DataFrame with a column position, as other jets have
    it, is one component and position a row. ValueError for positions outside the prompt, and as in
    resolve_components.
    """
    if not isinstance(components, pd.DataFrame) or "position" not in components:
        chosen = resolve_components(_site(run), run.sizes, components)
        return site_patches(run, chosen, resolve_positions(positions, run))
    if positions is not None:
        raise ValueError(
            "the table of components names their positions; leave out positions, or the column"
        )
    numbered: list[tuple[Any, Patch]] = []
    table: Any = components.reset_index(drop=True)
    for position, rows in table.groupby("position", sort=False):
        chosen = resolve_components(_site(run), run.sizes, rows)
        found = site_patches(run, chosen, resolve_positions([position], run))
        numbered += zip(rows.index, found, strict=True)
    return [patch for _, patch in sorted(numbered, key=lambda item: item[0])]


def resolve_positions(positions: Positions, run: BaseRun) -> tuple[int, ...] | None:
    """Positions of the prompt, BOS counted; all for 'each', None for none apart.

    ValueError names what is outside the prompt, repeated, empty or no whole number.
    """
    if positions is None:
        return None
    if isinstance(positions, str):
        if positions != EACH:
            raise ValueError(
                f"positions are '{EACH}' or a list of whole numbers, not {positions!r}"
            )
        return tuple(range(run.n_pos))
    try:
        chosen = tuple(operator.index(position) for position in positions)
    except TypeError as error:
        raise ValueError(
            f"positions are '{EACH}' or a list of whole numbers, not {positions!r}"
        ) from error
    if not chosen:
        raise ValueError(f"no positions requested; give '{EACH}' or at least one")
    for position in chosen:
        if not 0 <= position < run.n_pos:
            raise ValueError(
                f"position {position} lies outside {run.prompt}, which has {run.n_pos} positions "
                f"(0 to {run.n_pos - 1})"
            )
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"a position is requested twice in {list(chosen)}")
    return chosen


def patch_table(patches: Sequence[Patch]) -> pd.DataFrame:
    """The patches' places, one row each: layer, index and, where a patch has one, position."""
    columns = ["layer", "index", "position"]
    if all(patch.position is None for patch in patches):
        columns = columns[:2]
    return pd.DataFrame([patch.label for patch in patches], columns=columns)


# --- patches of one's own -------------------------------------------------------------------


def checked_patches(model: Any, patches: Any) -> list[Patch]:
    """A list of patches, numbered, whose hooks and directions can be meant.

    ValueError names the first that is none, lies outside the model, or has no finite direction.
    """
    listed = [patches] if isinstance(patches, Patch) else list(patches)
    if not listed:
        raise ValueError("no patches given; give at least one Patch(hook, layer, direction)")
    numbered = [_checked(model, number, patch) for number, patch in enumerate(listed)]
    if len({patch.position is None for patch in numbered}) > 1:
        raise ValueError("some patches have a position and others none; give all of them one")
    (label, count), *_ = Counter(patch.label for patch in numbered).most_common(1)
    if count > 1:
        raise ValueError(f"two patches are called {label}; give each its own index, or none")
    return numbered


def _checked(model: Any, number: int, patch: Any) -> Patch:
    if not isinstance(patch, Patch):
        raise ValueError(f"patch {number} is {patch!r}, no Patch(hook, layer, direction)")
    if not isinstance(patch.layer, int) or not 0 <= patch.layer < n_layers(model):
        raise ValueError(
            f"patch {number} is in layer {patch.layer}, but the model has {n_layers(model)} layers"
        )
    if layer_of(patch.hook) not in (None, patch.layer):
        raise ValueError(f"patch {number} is in layer {patch.layer}, but its hook is {patch.hook}")
    direction = patch.direction
    if not isinstance(direction, torch.Tensor) or not direction.is_floating_point():
        raise ValueError(
            f"patch {number} at {patch.hook}: its direction is "
            f"{getattr(direction, 'dtype', type(direction).__name__)}, no tensor of real numbers"
        )
    bad = direction[~direction.isfinite()]
    if len(bad):
        raise ValueError(
            f"patch {number} at {patch.hook}: its direction holds {float(bad[0])}; give finite ones"
        )
    return replace(
        patch,
        part=patch.part if isinstance(patch.part, tuple) else (patch.part,),
        index=number if patch.index is None else patch.index,
    )


def hooks_of(patches: Sequence[Patch]) -> Hooks:
    """The hooks that the patches use, each once."""
    return Hooks(tuple(dict.fromkeys(patch.hook for patch in patches)))


def first_moved(patches: Sequence[Patch], tokens: TokenPair) -> int:
    """First position that a patch moves, not after the first changed token."""
    first, n_pos = tokens.first_changed, len(tokens.clean_ids)
    for patch in patches:
        direction = patch.direction
        if patch.position is not None:
            moved = patch.position if bool(direction.any()) else first
        elif _over_positions(patch, n_pos):
            moving = _unbatched(direction, n_pos).reshape(n_pos, -1).any(1)
            rows = moving.nonzero()
            moved = int(rows[0]) if len(rows) else first
        else:
            moved = first
        first = min(first, max(0, moved))
    return first


def _over_positions(patch: Patch, n_pos: int) -> bool:
    shape = patch.direction.shape
    return shape[:1] == (n_pos,) or shape[:2] == (1, n_pos)


def _unbatched(direction: torch.Tensor, n_pos: int) -> torch.Tensor:
    batched = direction.shape[:2] == (1, n_pos) and direction.shape[0] != n_pos
    return direction[0] if batched else direction


def fitted(run: BaseRun, patches: Sequence[Patch], tokens: TokenPair) -> list[Patch]:
    """The patches with directions over the run's suffix, in its dtype and on its device.

    ValueError where a direction's shape is not that of the activation.
    """
    n_suffix = len(tokens.clean_ids) - tokens.first_changed
    bases = dict(zip(run.names, run.base, strict=True))
    return [_fit(run, number, p, bases[p.hook], n_suffix) for number, p in enumerate(patches)]


def _fit(run: BaseRun, number: int, patch: Patch, base: torch.Tensor, n_suffix: int) -> Patch:
    who = f"patch {number} at {patch.hook}"
    try:
        behind = tuple(base[0, 0][patch.part].shape)
    except (IndexError, TypeError) as error:
        raise ValueError(
            f"{who}: part {patch.part} lies outside its activation {tuple(base.shape[2:])}"
        ) from error
    shape, direction = tuple(patch.direction.shape), patch.direction.detach()
    if patch.position is not None:
        resolve_positions([patch.position], run)
        if shape != behind:
            raise ValueError(f"{who}: its direction is {shape}, and one position has {behind}")
        return replace(patch, direction=direction.to(base))
    if shape[:1] == (1,) and shape[1:] in ((run.n_pos, *behind), (n_suffix, *behind)):
        shape, direction = shape[1:], direction[0]
    if shape == (run.n_pos, *behind):
        direction = direction[run.start :]
    elif shape == (n_suffix, *behind):
        before = direction.new_zeros(run.n_pos - run.start - n_suffix, *behind)
        direction = torch.cat([before, direction])
    else:
        raise ValueError(
            f"{who}: its direction is {shape}; the activation is {(run.n_pos, *behind)} over the "
            f"prompt, or {(n_suffix, *behind)} from the first changed token on"
        )
    return replace(patch, direction=direction.to(base))


def _site(run: BaseRun) -> Site:
    if not isinstance(run.site, Site):
        raise TypeError(f"{run.site.label} is no site")
    return run.site
