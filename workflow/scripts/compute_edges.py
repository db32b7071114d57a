"""Scores of all edges, on one half of a setting's prompts (rule compute_edges)."""

import logging

import rule_session


def main() -> None:
    from hvp_patching.measuring.edges import edge_passes, halves, measure_edges, no_edges

    params = snakemake.params
    ability = rule_session.read_table(snakemake.input.ability)
    if not bool(ability["able"].item()):
        accuracy = float(ability["accuracy"].item())
        logging.info("the model does not do the task (accuracy %.2f): no edges scored", accuracy)
        rule_session.save_table(no_edges(), snakemake.output[0])
        return
    store = rule_session.open_store(params.store)
    passes = edge_passes(params.methods) / 2
    with rule_session.measuring(snakemake, "edges", passes=passes) as measurement:
        scored, _ = halves(measurement)
        table = measure_edges(scored, store, params.methods)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
