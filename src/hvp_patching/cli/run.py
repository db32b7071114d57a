"""What a command found: a ranked table of components, the numbers behind it, and how they came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column of the ranked table: its name, heading, and those of its interval's ends."""

    name: str
    heading: str
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Run:
    """facts: model, site, pairs and the like, as JSON values; frame: one row per component, ranked.

    columns: those with numbers, the ranking one first; prompts: one row per prompt and component,
    empty where there is none; sentence: what it says, in one sentence.
    """

    title: str
    facts: Mapping[str, Any]
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    prompts: pd.DataFrame
    sentence: str


def component_name(site: str, layer: int, index: int) -> str:
    """How a component is called: L5H3 (head), L5N12 (neuron), L5MLP, L5 (residual stream)."""
    kinds = {"attn_heads": f"H{index}", "mlp_out": "MLP", "resid_post": ""}
    return f"L{layer}{kinds.get(site, f'N{index}')}"
