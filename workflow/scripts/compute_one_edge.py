"""Circuits with the score of one edge changed (rule compute_one_edge)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.one_edge import measure_one_edge

    store = rule_session.open_store(snakemake.params.store)
    with rule_session.measuring(snakemake, "one edge") as measurement:
        table = measure_one_edge(measurement, store)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
