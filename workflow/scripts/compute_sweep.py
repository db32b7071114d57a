"""Many estimators on each prompt's components of largest effect.

Rules compute_top and compute_sweep.
"""

import rule_session


def main() -> None:
    from hvp_patching.measuring.sweeps import measure_sweep

    params, truth = snakemake.params, rule_session.read_table(snakemake.input.truth)
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, snakemake.rule.removeprefix("compute_")) as measurement:
        table = measure_sweep(measurement, store, truth, params.estimators, params.top_k)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
