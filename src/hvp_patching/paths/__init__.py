"""The jet engine: derivatives of f(t) = m(a + tδ) along patch paths."""

from hvp_patching.paths.gradients import site_attribution
from hvp_patching.paths.jets import ENGINE_VERSION, Jets, activation_patching, path_jets
from hvp_patching.paths.rows import DEFAULT_MEMORY
from hvp_patching.paths.taylor_tensor import UnsupportedOperation

__all__ = [
    "DEFAULT_MEMORY",
    "ENGINE_VERSION",
    "Jets",
    "UnsupportedOperation",
    "activation_patching",
    "path_jets",
    "site_attribution",
]
