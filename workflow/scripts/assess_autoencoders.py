"""Quality of a model's autoencoders on held-out texts (rule assess_autoencoders)."""

from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.measuring.autoencoders import assess, read_autoencoders, read_texts
    from hvp_patching.models import load_model

    wildcards, params = snakemake.wildcards, snakemake.params
    folder = Path(snakemake.input.model).parent
    model = load_model(wildcards.model, params.dtype, snakemake.resources.device, folder)
    rule_session.note_model(model)
    texts = read_texts(snakemake.input.texts, "held_out")
    autoencoders = read_autoencoders(snakemake.input.autoencoders, params.hooks, model)
    total = len(autoencoders) * texts.shape[0] * (texts.shape[1] - 1)
    with rule_session.progress(f"assess {wildcards.model}", total, "tokens") as bar:
        table = assess(model, autoencoders, texts, params.trained, bar.update)
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
