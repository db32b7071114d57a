"""Scores of all edges, on one half of a setting's prompts (rule compute_edges)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.edges import halves, measure_edges

    params = snakemake.params
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, "edges") as measurement:
        scored, _ = halves(measurement)
        table = measure_edges(scored, store, params.methods)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
