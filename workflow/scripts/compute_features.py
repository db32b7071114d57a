"""Features of a model's autoencoders as patches (rule compute_features)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.autoencoders import read_autoencoders
    from hvp_patching.measuring.features import measure_features

    params, files = snakemake.params, snakemake.input.autoencoders
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, "features") as measurement:
        autoencoders = read_autoencoders(files, params.hooks, measurement.model)
        table = measure_features(measurement, store, autoencoders, params.estimators)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
