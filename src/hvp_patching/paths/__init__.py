"""The jet engine: derivatives of f(t) = m(a + tδ) along patch paths."""

from hvp_patching.paths.gauss_newton import gauss_newton_form
from hvp_patching.paths.gradients import site_attribution
from hvp_patching.paths.jets import ENGINE_VERSION, Jets, activation_patching, path_jets
from hvp_patching.paths.metric import Metric, MetricError, logit_difference
from hvp_patching.paths.patches import Patch
from hvp_patching.paths.rows import DEFAULT_MEMORY
from hvp_patching.paths.taylor import UnsupportedOperation
from hvp_patching.paths.vector_hvp import (
    VectorProducts,
    hessian_vector_products,
    lipschitz_estimates,
)

__all__ = [
    "DEFAULT_MEMORY",
    "ENGINE_VERSION",
    "Jets",
    "Metric",
    "MetricError",
    "Patch",
    "UnsupportedOperation",
    "VectorProducts",
    "activation_patching",
    "gauss_newton_form",
    "hessian_vector_products",
    "lipschitz_estimates",
    "logit_difference",
    "path_jets",
    "site_attribution",
]
