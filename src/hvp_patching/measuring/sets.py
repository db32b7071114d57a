"""Sets of heads patched together, beside what predicts their effect (rule compute_sets).

Sets are drawn prompt by prompt, at random from all components, and the largest by |truth|; all
metrics see the same random ones. A killed run goes on where it was: the derivatives of a prompt's
sets at one node of their joint paths are an entry of the store.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from hvp_patching.cache import PromptKey, Store, prompt_fields, remember, stored_jets
from hvp_patching.checking import Subject, check_joint
from hvp_patching.circuits.joint import PREDICTORS, needed, predicted
from hvp_patching.frames import SET_EFFECTS
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.jets import Jets
from hvp_patching.paths.joint import JOINT_VERSION, Members, joint_jets
from hvp_patching.paths.metric import LOGIT_DIFFERENCE
from hvp_patching.paths.rows import Progress
from hvp_patching.sites import Component, get_site, layer_sizes
from hvp_patching.store import Entry

RANDOM, TOP = "random", "top"
SHARE_ALONE = 0.2  # of a prompt's time, about: what every component's own path takes of it


@dataclass(frozen=True)
class JointKey(PromptKey):
    """Everything that derivatives along joint paths at one node depend on; sets: their sha256."""

    sets: str
    node: str
    order: int
    backend: str
    version: int = JOINT_VERSION


@dataclass(frozen=True)
class DrawnSet:
    """A set of components, and how it was drawn."""

    drawn: str
    size: int
    number: int
    members: Members


def measure_sets(
    measurement: Measurement,
    store: Store,
    metrics: Sequence[str],
    sizes: Sequence[int],
    per_size: int,
    seed: int = 0,
    predictors: Sequence[str] = PREDICTORS,
) -> pd.DataFrame:
    """The frame `set_effects`: every set's joint effect and every predictor of it.

    metrics: 'logprob', 'logit_difference'; sizes: components of a set; per_size: random sets of
    each prompt and size. ValueError for a size above the number of components, a metric that needs
    foils where a prompt has none, and as in joint_effects; CheckFailed.
    """
    m = measurement
    _check_metrics(m, metrics)
    _check_sizes(m, sizes)

    def measure(subject: Subject) -> pd.DataFrame:
        return pd.concat(
            [
                _of_metric(m, store, subject, metric, (sizes, per_size, seed), predictors, share)
                for metric in metrics
                for share in [1 / len(metrics)]
            ],
            ignore_index=True,
        )

    return SET_EFFECTS.check(m.table(measure))


def _of_metric(
    m: Measurement,
    store: Store,
    subject: Subject,
    metric: str,
    drawing: tuple[Sequence[int], int, int],
    predictors: Sequence[str],
    share: float,
) -> pd.DataFrame:
    tokens, (alone, together) = subject.tokens, needed(predictors)
    singles, _ = stored_jets(
        *(store, m.model, tokens, m.site, {0.0: 0, 1.0: 0} | alone, m.backend, None, m.direction),
        *(m.memory, _part(m, share * SHARE_ALONE)),
        metric=metric,
    )
    truth = (singles.at(1.0, 0) - singles.at(0.0, 0)).numpy()
    places = singles.components.itertuples(index=False, name=None)
    components = [(int(layer), int(index)) for layer, index in places]
    sets = drawn_sets(components, truth, *drawing[:2], f"{drawing[2]}/{tokens.prompt_id}")
    members = [one.members for one in sets]
    jets, computed = stored_joint_jets(
        store, m, subject, members, together, metric, _part(m, share * (1 - SHARE_ALONE))
    )
    logging.info("%s: %d sets, %d nodes computed", metric, len(sets), computed)
    foils = tokens.foil_ids if metric == LOGIT_DIFFERENCE else ()
    check_joint(m.check, subject, [(one,) for one in components], singles, foils)
    check_joint(m.check, subject, members, jets, foils)
    table = predicted(predictors, members, jets, singles)
    frame = pd.DataFrame(
        [(metric, one.drawn, one.size, one.number) for one in sets],
        columns=["metric", "drawn", "size", "number"],
    ).assign(joint_effect=table["exact"], **{name: table[name] for name in predictors})
    ids = ["metric", "drawn", "size", "number", "joint_effect"]
    return frame.melt(ids, list(predictors), "predictor", "predicted")


def stored_joint_jets(
    store: Store,
    m: Measurement,
    subject: Subject,
    sets: Sequence[Members],
    nodes: dict[float, int] | Any,
    metric: str,
    progress: Progress,
) -> tuple[Jets, int]:
    """Jets along the sets' joint paths through the store, and how many nodes were computed.

    Errors as in joint_jets.
    """
    tokens = subject.tokens
    content = hashlib.sha256(json.dumps(sets).encode()).hexdigest()
    key = JointKey(
        **prompt_fields(m.model, tokens, m.site, m.direction, metric),
        sets=content,
        node="",
        order=0,
        backend=m.backend,
    )
    keys = {t: replace(key, node=f"{t:.12f}", order=order) for t, order in nodes.items()}

    def compute(missing: Sequence[float]) -> dict[float, Entry]:
        run = base_run(m.model, tokens, get_site(m.site), m.direction, metric)
        wanted = {node: nodes[node] for node in missing}
        values = joint_jets(run, sets, wanted, m.backend, m.memory, progress)
        return {t: {"values": values[:, i, : k + 1]} for i, (t, k) in enumerate(wanted.items())}

    entries, computed = remember(store, keys, m.model, compute)
    width = max(nodes.values()) + 1
    values = torch.full((len(sets), len(nodes), width), torch.nan, dtype=torch.float64)
    for i, (node, order) in enumerate(nodes.items()):
        values[:, i, : order + 1] = entries[node]["values"]
    return Jets(values, tuple(nodes), pd.DataFrame({"index": range(len(sets))})), computed


def drawn_sets(
    components: Sequence[Component],
    truth: np.ndarray,
    sizes: Sequence[int],
    per_size: int,
    seed: str,
) -> list[DrawnSet]:
    """`per_size` random sets of every size, and the components of largest |truth|.

    A random set depends on the seed, its size and number, and how many components there are; of
    equal |truth| the first in (layer, index) order are taken. Members in that order.
    """
    by_effect = np.argsort(-np.abs(truth), kind="stable")
    found = []
    for size in sizes:
        for number in range(per_size):
            draw = random.Random(f"{seed}/{size}/{number}/{len(components)}")
            places = draw.sample(range(len(components)), size)
            found.append(DrawnSet(RANDOM, size, number, _members(components, places)))
        found.append(DrawnSet(TOP, size, 0, _members(components, by_effect[:size])))
    return found


def _members(components: Sequence[Component], places: Any) -> Members:
    return tuple(sorted(components[int(place)] for place in places))


def _part(m: Measurement, share: float) -> Progress:
    """Progress of so much of a prompt."""
    return lambda fraction: m.advance(fraction * share)


def _check_metrics(m: Measurement, metrics: Sequence[str]) -> None:
    if LOGIT_DIFFERENCE not in metrics:
        return
    for tokens in m.prompts:
        if not tokens.foil_ids:
            raise ValueError(
                f"prompt '{tokens.prompt_id}' has no foil, which {LOGIT_DIFFERENCE} needs; take a "
                "task whose corruption names one, such as ioi, or leave the metric out"
            )


def _check_sizes(m: Measurement, sizes: Sequence[int]) -> None:
    n = sum(layer_sizes(m.model, get_site(m.site)))
    for size in sizes:
        if not 1 <= size <= n:
            raise ValueError(
                f"sets of {size} components are asked for, and the model has {n} at site "
                f"'{m.site}'; choose sizes from 1 to {n}"
            )
