"""Make and validate the prompt pairs of one task (rule build_prompts)."""

import logging
from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.files import write_text
    from hvp_patching.models import load_tokenizer
    from hvp_patching.prompts import build, write_prompts

    wildcards, params = snakemake.wildcards, snakemake.params
    model = load_tokenizer(wildcards.model, Path(snakemake.input.model).parent)
    prompts, dropped = build(
        model, wildcards.task, wildcards.corruption, params.n, params.seed, params.options
    )
    logging.info("%d prompts kept, %d dropped", len(prompts), len(dropped))
    write_text(snakemake.output.dropped, dropped.to_csv(index=False))
    write_prompts(prompts, snakemake.output.prompts)


rule_session.run(snakemake, main)
