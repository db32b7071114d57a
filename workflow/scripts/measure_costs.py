"""Seconds of forward passes, patching, derivatives and reverse passes (rule measure_costs)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.costs import measure_costs

    params = snakemake.params
    with rule_session.measuring(snakemake, "costs") as measurement:
        rule_session.note_model(measurement.model)
        costs = measure_costs(measurement, params.repeats, params.baselines)
    rule_session.save_table(costs, snakemake.output[0])


rule_session.run(snakemake, main)
