"""The report: one HTML page with every verdict, table and figure, that needs nothing else."""
