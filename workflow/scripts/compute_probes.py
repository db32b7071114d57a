"""Hessian–vector products along the patch paths of one setting (rule compute_probes)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.probes import measure_probes

    store = rule_session.open_store(snakemake.params.store)
    with rule_session.measuring(snakemake, "probes") as measurement:
        table = measure_probes(measurement, store, snakemake.params.nodes)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
