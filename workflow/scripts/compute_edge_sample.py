"""Sampled edges by every method and patched alone (rule compute_edge_sample)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.edge_sample import measure_edge_sample

    params = snakemake.params
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, "sampled edges") as measurement:
        options = (params.methods, params.per_stratum, params.seed)
        table = measure_edge_sample(measurement, store, *options)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
