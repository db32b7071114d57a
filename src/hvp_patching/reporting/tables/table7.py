"""Table 7: smoothness of the Hessian along the patch (Gemma-2-2B in the paper)."""

from hvp_patching.reporting.tables.lipschitz import lipschitz_table

TABLE = lipschitz_table(7)
