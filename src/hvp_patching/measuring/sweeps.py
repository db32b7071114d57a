"""Sweeps: many estimators on the few components that the top-k error looks at.

Rules compute_top and compute_sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hvp_patching.baselines import BASELINES, COSTS
from hvp_patching.cache import Store, stored_baseline, stored_jets
from hvp_patching.checking import Subject, check_scores
from hvp_patching.estimators import by_name, required_jets
from hvp_patching.measuring.jets import ENDS
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.measuring.scores import COLUMNS, score_estimators
from hvp_patching.paths.jets import Jets
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.sites import Component, get_site, layer_sizes, resolve_components


def largest_effects(
    truth: pd.DataFrame, k: int
) -> Mapping[str, tuple[tuple[Component, ...], float]]:
    """Per prompt the k components of largest |Δ|, and max Δ − min Δ over all (section 4.1).

    truth: a jets table with nodes 0 and 1; effects in nats. Components in (layer, index) order;
    equal |Δ| are taken in that order. ValueError if a node is missing.
    """
    found = {}
    for prompt_id, table in truth.groupby("prompt_id", sort=False):
        one = Jets.from_frame(table)
        effects = (one.at(1.0, 0) - one.at(0.0, 0)).numpy()
        frame = one.components.assign(size=abs(effects))
        top = frame.sort_values(["size", "layer", "index"], ascending=[False, True, True])[:k]
        chosen = sorted((int(i), int(j)) for i, j in zip(top["layer"], top["index"], strict=True))
        found[str(prompt_id)] = (tuple(chosen), float(effects.max() - effects.min()))
    return found


def measure_sweep(
    measurement: Measurement,
    store: Store,
    truth: pd.DataFrame,
    names: Sequence[str],
    k: int,
) -> pd.DataFrame:
    """sweep_prompt of every prompt's k components of largest |Δ|.

    truth: a jets table that holds the prompts, with nodes 0 and 1; it picks the components and
    gives the added column truth_range, in nats. ValueError as in largest_effects and
    sweep_prompt; CheckFailed.
    """
    m, largest = measurement, largest_effects(truth, k)

    def measure(subject: Subject) -> pd.DataFrame:
        tokens = subject.tokens
        components, effect_range = largest[tokens.prompt_id]
        frame = sweep_prompt(
            *(store, m.model, tokens, m.site, components, names, m.backend, m.direction),
            memory=m.memory,
            progress=m.advance,
        ).assign(truth_range=effect_range)
        check_scores(m.check, subject, frame)
        return frame

    return m.table(measure)


def sweep_prompt(
    store: Store,
    model: Any,
    tokens: TokenPair,
    site: str,
    components: Sequence[Component],
    names: Sequence[str],
    backend: str = "auto",
    direction: str = "noising",
    metric: AnyMetric = LOGPROB,
    **options: Any,
) -> pd.DataFrame:
    """Every named estimator or baseline on some components of one prompt, through the store.

    Returns the columns of a scores table, estimates and truth in the metric's units; options go to
    stored_jets. ValueError for an unknown name or as in path_jets.
    """
    rules = [by_name(name) for name in names if name not in BASELINES]
    request = ENDS | required_jets(rules)
    jets, _ = stored_jets(
        *(store, model, tokens, site, request, backend, tuple(components), direction),
        metric=metric,
        **options,
    )
    scores = score_estimators(jets.to_frame(tokens.prompt_id), rules)
    places = resolve_components(get_site(site), layer_sizes(model, get_site(site)), None)
    wanted = [places.index(component) for component in components]
    truth = jets.at(1.0, 0) - jets.at(0.0, 0)
    frames = [scores]
    for name in names:
        if name in BASELINES:
            estimates = stored_baseline(store, model, tokens, name, site, direction, metric=metric)
            frames.append(
                jets.components.assign(
                    prompt_id=tokens.prompt_id,
                    estimator=name,
                    estimate=estimates[wanted].numpy(),
                    truth=truth.numpy(),
                    cost=COSTS[name](model),
                )
            )
    return pd.concat(frames, ignore_index=True).loc[:, COLUMNS]
