"""Attention of the clean run, and what it says about each head's role (rule compute_attention)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.attention import measure_attention

    with rule_session.measuring(snakemake, "attention") as measurement:
        rule_session.note_model(measurement.model)
        patterns, roles = measure_attention(measurement)
    rule_session.save_table(patterns, snakemake.output.patterns)
    rule_session.save_table(roles, snakemake.output.roles)


rule_session.run(snakemake, main)
