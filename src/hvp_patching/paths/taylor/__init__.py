"""Taylor mode: truncated polynomials in t carried through a model's own forward pass."""

import hvp_patching.paths.taylor.functions
import hvp_patching.paths.taylor.products
import hvp_patching.paths.taylor.structure  # noqa: F401  (each registers its rules)
from hvp_patching.paths.taylor.tensor import MAX_ORDER, RULES, TaylorTensor, UnsupportedOperation

__all__ = ["MAX_ORDER", "RULES", "TaylorTensor", "UnsupportedOperation"]
