"""Errors per prompt and estimator (rule measure_errors)."""

import rule_session


def main() -> None:
    from hvp_patching.metrics import prompt_errors

    scores = rule_session.read_table(snakemake.input.scores)
    errors = prompt_errors(scores, snakemake.params.top_k, snakemake.params.trivial_effect)
    rule_session.save_table(errors, snakemake.output[0])


rule_session.run(snakemake, main)
