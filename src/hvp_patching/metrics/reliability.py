"""The reliability score: how large the second-order term is beside attribution patching."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", "torch.Tensor", NDArray[np.float64])


def reliability_score(ap: Array, q: Array) -> Array:
    """rho = |q / 2| / |AP| per component, without unit; NaN where AP is 0.

    ``ap`` = f'(0) and ``q`` = f''(0) are tensors or arrays of one shape, and so is the result.
    Raises ``ValueError`` where the shapes differ. Section 3.
    """
    if tuple(ap.shape) != tuple(q.shape):
        raise ValueError(f"ap has shape {tuple(ap.shape)} but q has {tuple(q.shape)}")
    with np.errstate(invalid="ignore"):
        size = abs(ap) / (ap != 0)  # 0 / 0 is NaN, and all else divided by 1
    return abs(q) / 2 / size


def flagging_score(ap: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """rho with a value where AP is 0, so that every component is on one side of a threshold.

    There it is infinite (always flagged) if q is not 0, and 0 (never flagged) if q is 0 too.
    Arrays of one shape, as for ``reliability_score``. The convention of proposition 2.
    """
    first, second = np.asarray(ap, dtype=np.float64), np.asarray(q, dtype=np.float64)
    rho = reliability_score(first, second)
    return np.where(first == 0, np.where(second == 0, 0.0, np.inf), rho)
