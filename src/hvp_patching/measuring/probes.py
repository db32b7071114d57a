"""Probes: Hessian–vector products along the patch paths of one setting (rule compute_probes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from hvp_patching.cache import Store, stored_probes
from hvp_patching.checking import Subject, check_probes
from hvp_patching.measuring.measurement import Measurement


def measure_probes(measurement: Measurement, store: Store, nodes: Sequence[float]) -> pd.DataFrame:
    """Lipschitz estimates of every component (appendix B.2), with each prompt's id.

    Units as in lipschitz_estimates. ValueError as in hessian_vector_products; CheckFailed.
    """
    # probes are made by reverse passes: Taylor mode is the other backend
    m = replace(measurement, backend="autograd")

    def measure(subject: Subject) -> pd.DataFrame:
        frame = stored_probes(
            *(store, m.model, subject.tokens, m.site, tuple(nodes)),
            *(m.direction, m.memory, m.advance),
        )
        check_probes(m.check, subject, frame, nodes)
        return frame

    return m.table(measure)
