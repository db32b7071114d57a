"""One attribution that is no function of the jet, for every prompt (rule compute_baseline)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.baselines import measure_baseline

    params, name = snakemake.params, snakemake.wildcards.baseline
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, name) as measurement:
        table = measure_baseline(measurement, store, name, params.neurons_per_layer, params.seed)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
