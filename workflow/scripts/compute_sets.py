"""Sets of heads patched together, beside what predicts their effect (rule compute_sets)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.sets import measure_sets

    params = snakemake.params
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, "sets") as measurement:
        table = measure_sets(
            *(measurement, store, params.metrics, params.sizes, params.per_size, params.seed)
        )
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
