"""Derivatives of the patch paths of one setting, prompt by prompt.

Rules compute_truth, compute_jets and compute_ranking_jets.
"""

import json

import rule_session


def main() -> None:
    from hvp_patching.files import write_text
    from hvp_patching.measuring.jets import measure_jets, needed_nodes

    params = snakemake.params
    store = rule_session.open_store(params.store)
    with rule_session.measuring(snakemake, snakemake.rule.removeprefix("compute_")) as measurement:
        table = measure_jets(
            measurement, store, params.estimators, params.neurons_per_layer, params.seed
        )
    resolved = {**snakemake.wildcards, **dict(params.items())}
    resolved |= {"nodes": needed_nodes(params.estimators), "prompts": len(measurement.prompts)}
    write_text(snakemake.output.config, json.dumps(resolved, indent=2) + "\n")
    rule_session.save_table(table, snakemake.output.jets)


rule_session.run(snakemake, main)
