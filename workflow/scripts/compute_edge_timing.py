"""Seconds of every method that scores all edges (rule compute_edge_timing)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.edge_timing import measure_edge_timing

    params, sampled = snakemake.params, snakemake.params.sampled
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, "edge timing") as measurement:
        few = (sampled["prompts"], sampled["edges"])
        table = measure_edge_timing(
            measurement, store, params.methods, *few, params.tau, params.seed
        )
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
