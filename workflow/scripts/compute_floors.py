"""Truths that disagree with the estimates in one respect (rule compute_floors)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.floors import measure_floors

    params = snakemake.params
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, "floors") as measurement:
        table = measure_floors(measurement, store, params.readings, params.top_k, params.seed)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
