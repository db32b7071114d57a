"""The numbers that answer a query: one per setting, or one of a file, a formula or a key."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from hvp_patching.claims.comparisons import (
    COMPARISONS,
    UNDECIDED,
    Estimate,
    Outcome,
    Target,
    judge,
)
from hvp_patching.claims.facts import FACTS
from hvp_patching.claims.reading import Claim, ClaimsError, Query
from hvp_patching.claims.selection import select
from hvp_patching.claims.statistics import estimate
from hvp_patching.failures import one_line, out_of_memory, shown
from hvp_patching.frames import SMALLEST_SAMPLE
from hvp_patching.settings import Setting


@dataclass(frozen=True)
class Source:
    """A result file of one setting: its configuration key, site and prompts at most."""

    key: str
    setting: Setting
    site: str
    path: str
    n_prompts: int


@dataclass(frozen=True)
class Number:
    """An estimate and where it comes from; setting is None of what no model was run for."""

    estimate: Estimate
    setting: Setting | None
    source: str
    few: bool = False


@dataclass(frozen=True)
class Check:
    """A number against its target, for one claim."""

    query: Query
    number: Number
    target: Target | None
    outcome: Outcome


class Evidence:
    """Reads and computes the numbers of queries, each once.

    sources: the files of every query that reads results; config: the configuration; root: the
    folder of the project's data files.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Source]],
        config: Mapping[str, Any],
        root: Path | str = ".",
    ) -> None:
        self._sources, self._config, self._root = sources, config, Path(root)
        self._frames: dict[str, pd.DataFrame] = {}
        self._numbers: dict[str, list[Number]] = {}
        metrics = config["metrics"]
        self._resampling = (metrics["bootstrap_resamples"], metrics["bootstrap_seed"])

    def numbers(self, query: Query) -> list[Number]:
        """Every number of a query, in the order of its settings; none where it is pending."""
        if query.name not in self._numbers:
            self._numbers[query.name] = self._answered(query)
        return self._numbers[query.name]

    def _answered(self, query: Query) -> list[Number]:
        try:
            return self._compute(query)
        except ClaimsError as error:
            if f"'{query.name}'" in str(error):
                raise
            raise ClaimsError(f"query '{query.name}': {error}") from error
        except Exception as error:  # whatever pandas and numpy make of its columns and words
            if out_of_memory(error):
                raise
            raise ClaimsError(
                f"query '{query.name}' has no answer ({type(error).__name__}: {one_line(error)}); "
                "correct it in data/claims/queries.yaml"
            ) from error

    def checks(self, query: Query, claim: Claim) -> list[Check]:
        """Every number of a query against what the claim, or the query, says."""
        found = []
        for number in self.numbers(query):
            target = target_of(query, claim, self._config)
            outcome: Outcome = UNDECIDED
            if target is not None and not number.few:
                outcome = judge(COMPARISONS[query.comparison], number.estimate, target)
            if outcome == "fails" and query.failing == UNDECIDED:
                outcome = UNDECIDED
            found.append(Check(query, number, target, outcome))
        return found

    def _compute(self, query: Query) -> list[Number]:
        if query.pending:
            return []
        if query.fact:
            function = FACTS.get(query.fact)
            if function is None:
                raise ClaimsError(f"query '{query.name}' asks the unknown fact '{query.fact}'")
            value = query.scale * function(**query.of)
            return [Number(Estimate(value), None, f"fact {query.fact}")]
        if query.config:
            return [Number(Estimate(_configured(self._config, query.config)), None, "config")]
        if query.file:
            frame = select(self._frame(query.file), query)
            found = estimate(frame, replace(query, interval="none"))
            return [Number(replace(found, n=None), None, query.file)]
        return self._of_settings(query)

    def _of_settings(self, query: Query) -> list[Number]:
        """One number a setting, none of one without any row: its model can't be asked."""
        groups: dict[object, list[Source]] = {}
        for source in self._sources.get(query.name, ()):
            groups.setdefault(None if query.together else source.setting, []).append(source)
        return [
            self._of_group(query, sources)
            for sources in groups.values()
            if not all(self._frame(source.path).empty for source in sources)
        ]

    def _of_group(self, query: Query, sources: Sequence[Source]) -> Number:
        frames = [
            self._frame(source.path).assign(
                site=source.site,
                key=source.key,
                model=source.setting.model,
                task=source.setting.task,
            )
            for source in sources
        ]
        found = estimate(select(pd.concat(frames), query), query, *self._resampling)
        most = min(source.n_prompts for source in sources)
        n = most if found.n is None else min(found.n, most) if found.n else most
        few = n < SMALLEST_SAMPLE and not query.few_prompts
        setting = None if query.together else sources[0].setting
        paths = "; ".join(dict.fromkeys(source.path for source in sources))
        return Number(replace(found, n=n), setting, paths, few)

    def _frame(self, path: str) -> pd.DataFrame:
        if path not in self._frames:
            csv = path.endswith(".csv")
            self._frames[path] = (
                pd.read_csv(self._root / path, comment="#") if csv else pd.read_parquet(path)
            )
        return self._frames[path]


def target_of(query: Query, claim: Claim, config: Mapping[str, Any]) -> Target | None:
    """What a query's number is compared with for this claim; None where the paper's is lost.

    ``than`` is a number, a key of the configuration, or the published value or one of its ends.
    """
    than = query.than
    if isinstance(than, str) and than.startswith("published"):
        low, high = claim.value, claim.value_high
        if low is None:
            return None
        ends = {"published_low": (low, low), "published_high": (high, high)}
        low, high = ends.get(than, (low, low if high is None else high))
        if low is None or high is None:
            return None
        low, high = min(low, high), max(low, high)
    elif isinstance(than, str):
        low = high = _configured(config, than)
    else:
        low = high = float(than)
    return Target(low, high, _tolerance(query.tolerance, claim, high))


def _tolerance(tolerance: float | str, claim: Claim, target: float) -> float:
    """Absolute: a number as it is, '10%' of the target, 'rounding' half of the last digit."""
    if tolerance == "rounding":
        return 0.5 * 10.0**-claim.decimals
    if isinstance(tolerance, str):
        return float(tolerance.removesuffix("%")) / 100 * abs(target)
    return float(tolerance)


def _configured(config: Mapping[str, Any], key: str) -> float:
    """A number of the configuration: of a list its length, of a word its digits (float32)."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ClaimsError(f"the configuration has no key '{key}', which a claim asks for")
        value = value[part]
    if isinstance(value, list):
        return float(len(value))
    if isinstance(value, str):
        digits = re.search(r"\d+", value)
        return float(digits[0]) if digits else math.nan
    if not isinstance(value, int | float):
        raise ClaimsError(
            f"the configuration's '{key}' is {shown(value)}, and a claim asks a number"
        )
    return float(value)
