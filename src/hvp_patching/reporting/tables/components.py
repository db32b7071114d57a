"""Median errors by component type, as Tables 3, 11 and 12 show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from hvp_patching.models.errors import ModelError
from hvp_patching.models.registry import get_spec
from hvp_patching.places import get_site
from hvp_patching.reporting.cells import percent, with_interval
from hvp_patching.reporting.latex import Tex
from hvp_patching.reporting.names import listed
from hvp_patching.reporting.results import Record, records

GATED_FAMILIES = ("llama", "gemma2", "gemma3", "qwen2")


def by_place(medians: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Record]]:
    """Rows of the frame ``medians`` by setting and site, then by estimator."""
    found: dict[tuple[Any, ...], dict[str, Record]] = {}
    keys = [name for name in ("model", "task", "corruption", "site") if name in medians]
    for row in records(medians):
        place = found.setdefault(tuple(row[name] for name in keys), {})
        place[row["estimator"]] = row
    return found


def error_cells(row: Mapping[str, Any] | None, value: str, low: str, high: str) -> Record:
    """An error and its interval in percent under these names; nothing for a method not scored."""
    if row is None:
        return {}
    return {value: 100 * row["value"], low: 100 * row["ci_low"], high: 100 * row["ci_high"]}


def reduction_cells(row: Mapping[str, Any] | None) -> Record:
    """The reduction against AP and its interval in percent; nothing for a method not scored."""
    if row is None:
        return {}
    return {
        "reduction_pct": 100 * row["reduction"],
        "reduction_ci_low_pct": 100 * row["reduction_low"],
        "reduction_ci_high_pct": 100 * row["reduction_high"],
    }


def reduction_cell(row: Mapping[str, Any]) -> Tex:
    """``reduction_cells`` as they are typeset."""
    ends = row["reduction_ci_low_pct"], row["reduction_ci_high_pct"]
    return with_interval(percent(row["reduction_pct"]), *ends)


def neuron_notes(models: Iterable[str], sites: Iterable[str]) -> list[str]:
    """Which neurons are measured, and what they are in a gated MLP; nothing without neurons."""
    if not any(get_site(site).sampled for site in sites):
        return []
    notes = ["Neurons: a seeded sample of every layer's."]
    gated = [model for model in dict.fromkeys(models) if _is_gated(model)]
    if gated:
        notes.append(
            f"Gated MLPs ({listed(gated)}): a pre-act neuron is the gate's pre-activation, a "
            "post-act neuron the product of the activated gate and the other branch."
        )
    return notes


def atp_star_notes(methods: Iterable[str]) -> list[str]:
    """What our AtP* is; nothing where it is not among the ``methods`` shown."""
    notes = {
        "atp_star": "AtP*: GradDrop on the component's own activation. Its QK fix has nothing to "
        "add there, because the patch of a head's output holds the exact attention pattern.",
        "atp_star_qkv": "AtP* (q, k, v): QK fix and GradDrop on a head's query, key and value "
        "nodes, summed.",
    }
    return [note for method, note in notes.items() if method in set(methods)]


ONE_PASS = {
    "gim": "GIM: with its rule for gated MLPs.",
    "gim_0_1_4": "GIM 0.1.4: as the authors' releases compute it, without that rule (equal where "
    "MLPs have no gate).",
    "relp": "RelP: gradients by relevance propagation.",
    "ig_inputs": "IG of inputs: the mean gradient over interpolated input embeddings, for all "
    "components at once.",
    "clean_corrupted": "Clean + corrupted: the mean of both runs' gradients.",
    "second_order_share": "Second-order share: AP plus half a component's share of one "
    "Hessian-vector product for all.",
}


def one_pass_notes(methods: Iterable[str]) -> list[str]:
    """What the baselines shown are that one or few passes compute for all components."""
    shown = [re.sub(r"^(ig_inputs)_\d+$", r"\1", method) for method in dict.fromkeys(methods)]
    found = [ONE_PASS[method] for method in dict.fromkeys(shown) if method in ONE_PASS]
    return [" ".join(found)] if found else []


def _is_gated(model: str) -> bool:
    try:
        return get_spec(model).family in GATED_FAMILIES
    except ModelError:  # a model of the researcher's own
        return False
