"""Circuits judged on the other half of a setting's prompts (rule compute_faithfulness)."""

import logging

import rule_session


def main() -> None:
    from hvp_patching.measuring.edges import halves, measure_faithfulness, no_circuits

    scores = rule_session.read_table(snakemake.input.edges)
    if scores.empty:
        logging.info("the model does not do the task: no circuits judged")
        rule_session.save_table(no_circuits(), snakemake.output[0])
        return
    store = rule_session.open_store(snakemake.params.store)
    with rule_session.measuring(snakemake, "circuits", passes=0.5) as measurement:
        _, judged = halves(measurement)
        table = measure_faithfulness(judged, store, scores)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
