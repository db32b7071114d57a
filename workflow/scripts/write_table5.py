"""Table 5: notation (rule table5)."""

import rule_session


def main() -> None:
    from hvp_patching.reporting import collect_provenance, table5_frame, write_table5

    provenance = collect_provenance(snakemake.params.profile, snakemake.params.effort)
    write_table5(table5_frame(), provenance, snakemake.output.tex, snakemake.output.csv)


rule_session.run(snakemake, main)
