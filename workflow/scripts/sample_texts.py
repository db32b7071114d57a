"""Texts sampled from one model: for training, and held out (rule sample_texts)."""

from pathlib import Path

import rule_session


def main() -> None:
    import torch
    from safetensors.torch import save

    from hvp_patching.features.texts import HELD_OUT_SEED, sample_texts
    from hvp_patching.files import write_bytes
    from hvp_patching.models import load_model

    wildcards, params = snakemake.wildcards, snakemake.params
    folder = Path(snakemake.input.model).parent
    model = load_model(wildcards.model, params.dtype, snakemake.resources.device, folder)
    store = rule_session.open_store(params.store)
    total = params.tokens + params.held_out
    with rule_session.progress(f"sample {wildcards.model}", total, "tokens") as bar:
        parts = {
            "train": sample_texts(model, store, params.tokens, params.seed, bar.update)
            if params.tokens
            else torch.zeros(0, 0, dtype=torch.int64),
            "held_out": sample_texts(
                *(model, store, params.held_out, params.seed + HELD_OUT_SEED, bar.update)
            ),
        }
    write_bytes(snakemake.output[0], save(parts))


rule_session.run(snakemake, main)
