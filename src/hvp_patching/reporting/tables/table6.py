"""Table 6: smoothness of the Hessian along the patch (GPT-2 small in the paper)."""

from hvp_patching.reporting.tables.lipschitz import lipschitz_table

TABLE = lipschitz_table(6)
