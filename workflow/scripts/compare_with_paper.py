"""Every number of the paper's tables beside ours (rule compare_with_paper)."""

import logging

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.files import write_text
    from hvp_patching.reporting.comparison import (
        comparison,
        read_our_tables,
        summary_sentence,
        table_number,
        table_sentences,
    )
    from hvp_patching.reporting.provenance import collect_provenance, csv_text

    profile = snakemake.params.profile
    ours = read_our_tables(snakemake.input.tables, profile)
    published = {table_number(path): pd.read_csv(path) for path in snakemake.input.published}
    frame = comparison(ours.frames, published, profile)
    provenance = collect_provenance(
        profile, ours.effort, ours.models, ours.prompts, environments=ours.environments
    )
    write_text(snakemake.output[0], csv_text(frame, provenance))
    for sentence in (*table_sentences(frame), summary_sentence(frame)):
        logging.info(sentence)


rule_session.run(snakemake, main)
