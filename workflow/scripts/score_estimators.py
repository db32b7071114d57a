"""Estimates of every estimator beside the true effect (rule score_estimators)."""

import rule_session


def main() -> None:
    from hvp_patching.estimators import by_name
    from hvp_patching.measuring.scores import add_baseline, score_estimators

    jets = rule_session.read_table(snakemake.input.jets)
    scores = score_estimators(jets, [by_name(name) for name in snakemake.params.estimators])
    for path in snakemake.input.baselines:
        scores = add_baseline(scores, rule_session.read_table(path))
    rule_session.save_table(scores, snakemake.output[0])


rule_session.run(snakemake, main)
