"""The result of a screening: a table, a certificate for each list of components, and a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hvp_patching.files import write_text
from hvp_patching.metrics.spending import Certificate, Spent
from hvp_patching.metrics.walking import Numbers

COLUMNS = (
    *("prompt_id", "layer", "index", "score", "estimate", "low", "high", "how", "drawn"),
    "rank",
)
NAMED = 5  # components that a sentence names


@dataclass(frozen=True)
class Cost:
    """What a screening took.

    passes: forward passes by count, an upper bound; seconds: by the clock, scores included;
    forward_seconds: of one whole prompt's forward pass; patched: rows patched exactly, of as many
    as patching everything takes (components times prompts).
    """

    passes: int
    seconds: float
    forward_seconds: float
    patched: int
    of: int

    @property
    def forward_equivalents(self) -> float:
        """Measured seconds in forward passes of one prompt."""
        return self.seconds / self.forward_seconds

    @property
    def share(self) -> float:
        """Rows patched exactly, as a fraction of all."""
        return self.patched / self.of


@dataclass(frozen=True)
class Part:
    """One list of components: those of one prompt, or of the means over several.

    table: layer and index of each; scores: [n_components].
    """

    prompt_ids: tuple[str, ...]
    table: pd.DataFrame
    scores: Numbers
    spent: Spent

    @property
    def certificate(self) -> Certificate:
        """What holds for the components left."""
        return self.spent.certificate

    @property
    def name(self) -> str:
        """The prompt's id, or how many prompts the effects are means over."""
        first, *others = self.prompt_ids
        return f"mean of {len(self.prompt_ids)} prompts" if others else first

    def to_frame(self) -> pd.DataFrame:
        """One row per component, the largest |estimate| first."""
        spent = self.spent
        frame = self.table.reset_index(drop=True).assign(
            prompt_id=self.name,
            score=self.scores,
            estimate=spent.estimate,
            low=spent.low,
            high=spent.high,
            how=np.where(spent.exact, "exact", "estimated"),
            drawn=spent.drawn,
        )
        order = np.argsort(-np.abs(spent.estimate), kind="stable")
        frame = frame.iloc[order].reset_index(drop=True)
        return frame.assign(rank=np.arange(1, len(frame) + 1))[list(COLUMNS)]


@dataclass(frozen=True)
class Screening:
    """What a budget bought: estimates and intervals of all components, and what may be missed.

    parts: one of all pairs together (`pool`), or one per pair.
    """

    parts: tuple[Part, ...]
    cost: Cost
    site: str
    score: str
    policy: str
    budget: str
    top_k: int
    alpha: float
    seed: int

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """One per part."""
        return tuple(part.certificate for part in self.parts)

    def to_frame(self) -> pd.DataFrame:
        """One row per part and component, by rank: the largest |estimate| first.

        prompt_id (or how many prompts it is a mean over), layer, index, score, estimate, low and
        high (in the metric's units), how ('exact' or 'estimated'), drawn (patched by the uniform
        draw), rank. Intervals of exact ones are points.
        """
        return pd.concat([part.to_frame() for part in self.parts], ignore_index=True)

    def top(self) -> pd.DataFrame:
        """The rows of the top k."""
        frame = self.to_frame()
        return frame[frame["rank"] <= self.top_k].reset_index(drop=True)

    def sentence(self) -> str:
        """The top k, how sure, at what cost; a line per part."""
        return "\n".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        cost = self.cost
        spent = (
            f"Cost: {cost.patched} of {cost.of} patches, {cost.seconds:.3g} s, as long as "
            f"{cost.forward_equivalents:.3g} forward passes."
        )
        for part in self.parts:
            text = f"{self._top(part)} {self._certain(part.certificate)}"
            yield f"{text} {spent}" if len(self.parts) == 1 else f"{part.name}: {text}"
        if len(self.parts) > 1:
            yield spent

    def _top(self, part: Part) -> str:
        top = part.to_frame().head(self.top_k)
        named = ", ".join(
            f"{row.layer}.{row.index_} ({row.estimate:.3g})"
            for row in top.rename(columns={"index": "index_"}).head(NAMED).itertuples()
        )
        exact = int((top["how"] == "exact").sum())
        more = ", …" if len(top) > NAMED else ""
        how = "all known exactly" if exact == len(top) else f"{exact} of them known exactly"
        return (
            f"Top {self.top_k} of {part.certificate.n_components} at {self.site} (layer.index): "
            f"{named}{more}; {how}."
        )

    def _certain(self, certificate: Certificate) -> str:
        c, sure = certificate, f"{100 * (1 - self.alpha):g}%"
        if c.complete:
            return f"Every component was patched ({c.complete}): nothing was missed."
        if not c.n_left:
            return "Every component was patched: nothing was missed."
        bound = (
            f"Of the {c.n_left} not patched, at most {c.at_most} exceed {c.threshold:.3g} in size"
            f"{'' if c.rank == self.top_k else f', rank {c.rank} of those known before,'} "
            f"(confidence {sure}, from {c.n_drawn} drawn uniformly)"
        )
        if math.isinf(c.quantile):
            return f"{bound}; too few were drawn for intervals: give a larger budget."
        return f"{bound}; {c.reaching} of their {sure} intervals reach that."

    def to_json(self, path: Path | str | None = None) -> str:
        """Everything as JSON text, written to `path` too if there is one; infinite ends are null.

        Raises ``WriteError`` for a file that cannot be written.
        """
        frame = self.to_frame().astype(object)
        record = {
            **{name: getattr(self, name) for name in ("site", "score", "policy", "budget")},
            **{name: getattr(self, name) for name in ("top_k", "alpha", "seed")},
            "sentence": self.sentence(),
            "cost": asdict(self.cost)
            | {"forward_equivalents": self.cost.forward_equivalents, "share": self.cost.share},
            "parts": [
                {"prompt_ids": list(part.prompt_ids), "certificate": asdict(part.certificate)}
                for part in self.parts
            ],
            "components": frame.to_dict("records"),
        }
        text = json.dumps(_plain(record), ensure_ascii=False, allow_nan=False, indent=1)
        if path is not None:
            write_text(path, text + "\n")
        return text


def _plain(value: Any) -> Any:
    """The value with numbers of Python's own, and None for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
