"""Estimators of growing cost on a few large effects, per precision (rule compute_convergence)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.convergence import measure_convergence

    params, truth = snakemake.params, rule_session.read_table(snakemake.input.truth)
    store, dtypes = rule_session.open_store(params.store), params.dtypes
    setup = rule_session.measuring(snakemake, "convergence", passes=len(dtypes))
    with setup as measurement:
        table = measure_convergence(
            measurement, store, truth, params.estimators, params.top_k, dtypes
        )
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
