"""Checks of baselines: each by its own definition in plain forward passes, where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd
import torch

from hvp_patching.baseline_names import counted
from hvp_patching.baselines import BASELINES, gim_context
from hvp_patching.checking.between_runs import (
    clean_corrupted_again,
    ig_inputs_again,
    second_order_share_again,
)
from hvp_patching.checking.check import CannotCheck, Check, Comparison
from hvp_patching.checking.differences import OFFSETS, Derivatives, derivatives
from hvp_patching.checking.grad_drop import atp_star_again, atp_star_qkv_again
from hvp_patching.checking.plain import Move
from hvp_patching.checking.reference import FORWARD, path_sizes
from hvp_patching.checking.relevance import relp_again
from hvp_patching.checking.slopes import Estimates
from hvp_patching.checking.subject import Subject
from hvp_patching.paths.base_run import base_run
from hvp_patching.sites import Component, get_site, layer_sizes, resolve_components

AGAIN = "computing it again, past the store"
# how the context of each differs from its defaults
GIM: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {"gim": {}, "gim_0_1_4": {"gated_scale": None}}
)


def check_baseline(check: Check, subject: Subject, name: str, estimates: pd.DataFrame) -> None:
    """A baseline's estimates of one prompt (columns layer, index, estimate); a row is a component.

    Errors as in check_jets, naming the baseline in the place of node and order.
    """
    if not check.on:
        return
    columns = (estimates[name].tolist() for name in ("layer", "index", "estimate"))
    table = {(int(i), int(j)): float(value) for i, j, value in zip(*columns, strict=True)}

    def verify(chosen: Sequence[Component]) -> Iterator[Comparison]:
        ours = [table[component] for component in chosen]
        yield from verify_baseline(check, subject, name, chosen, ours)

    check.rows(subject.prompt, list(table), verify)


def verify_baseline(
    check: Check,
    subject: Subject,
    name: str,
    components: Sequence[Component],
    ours: Sequence[float],
) -> Iterator[Comparison]:
    """Comparisons of some components of one prompt."""
    if name in GIM:
        check.note("GIM's gradients, modified on purpose, were only computed again")
        yield from _verify_gim(subject, name, components, ours)
        return
    steps = counted(name)
    if steps and steps[0] == "ig_inputs":
        found = ig_inputs_again(subject, components, steps[1])
    elif name in CHECKED:
        found = CHECKED[name](subject, components)
    else:
        raise CannotCheck(f"the check knows no second way of computing '{name}'")
    for (layer, index), value, (other, tolerance) in zip(components, ours, found, strict=True):
        where = f"{subject.prompt}, layer {layer}, index {index}, {name}"
        yield Comparison(where, FORWARD, value, other, tolerance)


def _along(
    subject: Subject, component: Component, order: int
) -> tuple[Derivatives, torch.Tensor, torch.Tensor]:
    """m's derivatives at t = 0 of one path, their tolerances, and the logits [n_offsets, V]."""
    paths = subject.paths
    logits = paths.logits([paths.move(*component, offset) for offset in OFFSETS])
    found = derivatives(paths.metric(logits), order)
    return found, found.errors + subject.tolerance(path_sizes(logits, order)), logits


def _gauss_newton(subject: Subject, components: Sequence[Component]) -> Estimates:
    """f'(0) + ½ · the variance of the logits' slope under the metric: targets' less everyone's."""
    found: Estimates = []
    for component in components:
        first, tolerances, logits = _along(subject, component, 2)
        slope = derivatives(logits, 1)
        targets = subject.paths.targets.cpu()
        value = _variance(logits[0][targets], slope.values[1][targets])
        value -= _variance(logits[0], slope.values[1])
        steepness = float(slope.values[1].abs().max())
        error = 2 * steepness * float(slope.errors[1].max())
        found.append(
            (
                float(first.values[1]) + value / 2,
                float(tolerances[1] + tolerances[2] / 2) + error,
            )
        )
    return found


def _variance(logits: torch.Tensor, slope: torch.Tensor) -> float:
    p = logits.softmax(-1)
    mean = (p * slope).sum()
    return float((p * (slope - mean).square()).sum())


def _local_curvature(subject: Subject, components: Sequence[Component]) -> Estimates:
    """f'(0) + ½ · m's slope along the curvature of the neuron's own output."""
    posts, found = subject.paths_at("mlp_post"), []
    for layer, index in components:
        first, tolerances, _ = _along(subject, (layer, index), 1)
        bend, bend_error = _output_curvature(subject, layer, index)
        whole = torch.zeros_like(posts.a[layer])
        whole[..., index] = bend.to(whole.device)
        logits = posts.logits([Move(layer, offset * whole) for offset in OFFSETS])
        second = derivatives(posts.metric(logits), 1)
        sizes = path_sizes(logits, 1)
        share = bend_error / max(float(bend.norm()), bend_error)  # of the curvature
        error = second.errors[1] + subject.tolerance(sizes)[1] + share * second.values[1].abs()
        found.append(
            (
                float(first.values[1] + second.values[1] / 2),
                float(tolerances[1] + error / 2),
            )
        )
    return found


def _local_curvature_unweighted(subject: Subject, components: Sequence[Component]) -> Estimates:
    """f'(0) + ½ · the sum over positions of the neuron's own output's curvature."""
    found: Estimates = []
    for layer, index in components:
        first, tolerances, _ = _along(subject, (layer, index), 1)
        bend, error = _output_curvature(subject, layer, index)
        rounding = subject.tolerance(bend.abs().sum())
        found.append(
            (
                float(first.values[1] + bend.sum() / 2),
                float(tolerances[1] + (rounding + error * len(bend) ** 0.5) / 2),
            )
        )
    return found


def _output_curvature(subject: Subject, layer: int, index: int) -> tuple[torch.Tensor, float]:
    """Second derivative along the path of a neuron's mlp_post, [n_pos], and its error's norm."""
    paths, kept = subject.paths, []

    def keep(activation: torch.Tensor, hook: object) -> None:
        kept.append(activation[..., index].detach().cpu())

    moves = [paths.move(layer, index, offset) for offset in OFFSETS]
    paths.logits(moves, [(paths.hook("mlp_post", layer), keep)])
    found = derivatives(torch.cat(kept), 2)
    return found.values[2], float(found.errors[2].norm())


def _verify_gim(
    subject: Subject, name: str, components: Sequence[Component], ours: Sequence[float]
) -> Iterator[Comparison]:
    model, site = subject.model, get_site(subject.site)
    setting = (model, subject.tokens, subject.site, subject.direction)
    again = BASELINES[name](*setting)
    places = resolve_components(site, layer_sizes(model, site), None)
    largest = float(again.abs().max())
    for (layer, index), value in zip(components, ours, strict=True):
        other = float(again[places.index((layer, index))])
        where = f"{subject.prompt}, layer {layer}, index {index}, {name}"
        tolerance = float(subject.tolerance(torch.tensor(largest)))
        yield Comparison(where, AGAIN, value, other, tolerance)
    run = base_run(model, subject.tokens, site, subject.direction)
    with torch.no_grad(), gim_context(model, **GIM[name]):
        inside = float(run.metric(run.logits([], run.prefix_copy())))
    logits = subject.paths.logits([subject.paths.move(*components[0], 0.0)])
    plain = float(subject.paths.metric(logits)[0])
    sizes = path_sizes(logits, 0)
    where = f"{subject.prompt}, the forward pass under GIM"
    yield Comparison(where, "a plain one", inside, plain, float(subject.tolerance(sizes)[0]))


CHECKED: MappingProxyType[str, Callable[[Subject, Sequence[Component]], Estimates]] = (
    MappingProxyType(
        {
            "gauss_newton": _gauss_newton,
            "relp": relp_again,
            "clean_corrupted": clean_corrupted_again,
            "second_order_share": second_order_share_again,
            "local_curvature": _local_curvature,
            "local_curvature_unweighted": _local_curvature_unweighted,
            "atp_star": atp_star_again,
            "atp_star_qkv": atp_star_qkv_again,
        }
    )
)
