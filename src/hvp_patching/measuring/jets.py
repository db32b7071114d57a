"""Jets: derivatives of the patch paths of one setting (rule compute_jets)."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pandas as pd

from hvp_patching.cache import Store, stored_jets
from hvp_patching.checking import Subject, check_jets
from hvp_patching.estimators import by_name, required_jets
from hvp_patching.measuring.measurement import Measurement

ENDS = {0.0: 0, 1.0: 0}


def needed_nodes(estimators: Iterable[str]) -> dict[float, int]:
    """Nodes of the path and the highest derivative at each: both ends, and what the rules ask for.

    ValueError for an unknown name.
    """
    return ENDS | required_jets([by_name(name) for name in estimators])


def measure_jets(
    measurement: Measurement,
    store: Store,
    estimators: Iterable[str],
    per_layer: int | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    """Derivatives in nats at the nodes that the estimators need, as Jets.to_frame has them.

    per_layer: components sampled of each layer, all of them without. ValueError for an unknown
    estimator or as in path_jets; CheckFailed.
    """
    m, nodes = measurement, needed_nodes(estimators)
    components = m.sample(per_layer, seed)

    def measure(subject: Subject) -> pd.DataFrame:
        jets, computed = stored_jets(
            *(store, m.model, subject.tokens, m.site, nodes, m.backend),
            *(components, m.direction, m.memory, m.advance),
        )
        logging.info("%d of %d nodes computed, the rest was in the store", computed, len(nodes))
        check_jets(m.check, subject, jets)
        return jets.to_frame(subject.tokens.prompt_id)

    return m.table(measure)
