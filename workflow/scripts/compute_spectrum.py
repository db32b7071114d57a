"""Spectra of the residual stream's Hessian at some depths (rule compute_spectrum)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.spectrum import measure_spectrum

    params = snakemake.params
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, "spectrum") as measurement:
        table = measure_spectrum(
            *(measurement, store, params.depths, params.rank, params.neurons, params.seed)
        )
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
