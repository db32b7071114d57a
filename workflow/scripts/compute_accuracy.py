"""A model's answers to the clean prompts of a task (rule compute_accuracy)."""

import rule_session


def main() -> None:
    from hvp_patching.measuring.accuracy import measure_accuracy
    from hvp_patching.prompts import read_answers

    answers = read_answers(snakemake.input.prompts)
    with rule_session.measuring(snakemake, "accuracy") as measurement:
        rule_session.note_model(measurement.model)
        table = measure_accuracy(measurement, answers)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
