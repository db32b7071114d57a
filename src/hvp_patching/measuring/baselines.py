"""Attributions that are no function of the jet, such as GIM (rule compute_baseline)."""

from __future__ import annotations

import pandas as pd

from hvp_patching.baselines import COSTS
from hvp_patching.cache import Store, stored_baseline
from hvp_patching.checking import Subject, check_baseline
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.sites import get_site, layer_sizes, resolve_components


def measure_baseline(
    measurement: Measurement,
    store: Store,
    name: str,
    per_layer: int | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    """One baseline's estimates in nats: columns prompt_id, layer, index, estimate, estimator, cost.

    It scores all components; where the jets hold a sample of them, only the sampled ones are
    kept. ValueError for an unknown baseline or as it raises; CheckFailed.
    """
    m, site = measurement, get_site(measurement.site)
    places = resolve_components(site, layer_sizes(m.model, site), None)
    scored = pd.DataFrame(places, columns=["layer", "index"])
    kept = pd.DataFrame(m.sample(per_layer, seed) or places, columns=["layer", "index"])

    def measure(subject: Subject) -> pd.DataFrame:
        estimates = stored_baseline(store, m.model, subject.tokens, name, m.site, m.direction)
        frame = scored.assign(estimate=estimates.numpy()).merge(kept)
        check_baseline(m.check, subject, name, frame)
        return frame.assign(estimator=name, cost=COSTS[name](m.model))

    return m.table(measure)
