"""Numbers of a run as LaTeX macros (rule numbers)."""

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.files import write_text
    from hvp_patching.reporting.article.numbers import (
        check_numbers,
        comparison_numbers,
        macros,
        run_facts,
        verdict_numbers,
    )
    from hvp_patching.reporting.provenance import TEX, collect_provenance, header
    from hvp_patching.reporting.run_record import read_run

    given, params = snakemake.input, snakemake.params
    numbers = {
        "Profile": params.profile,
        "Effort": params.effort,
        **verdict_numbers(pd.read_csv(given.counts, comment="#")),
        **comparison_numbers(pd.read_csv(given.comparison, comment="#")),
        **check_numbers(pd.read_csv(given.checks)),
        **run_facts([*given.tables, *given.figures], read_run()),
    }
    provenance = collect_provenance(params.profile, params.effort)
    write_text(snakemake.output[0], macros(numbers, header(provenance, TEX)))


rule_session.run(snakemake, main)
