"""One top-k autoencoder on a model's own texts (rule train_autoencoder)."""

from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.features.layout import save_autoencoder
    from hvp_patching.features.training import Plan
    from hvp_patching.measuring.autoencoders import read_texts, train_on_texts
    from hvp_patching.models import load_model

    wildcards, params = snakemake.wildcards, snakemake.params
    folder, out = Path(snakemake.input.model).parent, Path(snakemake.output.config).parent
    model = load_model(wildcards.model, params.dtype, snakemake.resources.device, folder)
    store = rule_session.open_store(params.store)
    plan = Plan(params.width, params.k, params.steps, params.batch)
    texts = read_texts(snakemake.input.texts, "train")
    with rule_session.progress(f"train {wildcards.hook}", plan.steps, "steps") as bar:
        autoencoder, about = train_on_texts(
            model, texts, wildcards.hook, plan, store, params.seed, bar.update
        )
    save_autoencoder(autoencoder, out, about)


rule_session.run(snakemake, main)
