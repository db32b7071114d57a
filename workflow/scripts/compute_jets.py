"""Derivatives of the patch paths of one setting, prompt by prompt (rule compute_jets)."""

import json
import logging
from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.cache import Store, stored_jets
    from hvp_patching.estimators import by_name, required_jets
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts
    from hvp_patching.reporting import write_text

    params, engine = snakemake.params, snakemake.params.engine
    model = load_model(
        snakemake.wildcards.model,
        engine["dtype"],
        engine["device"],
        Path(snakemake.input.model).parent,
    )
    prompts = read_prompts(snakemake.input.prompts)
    nodes = {0.0: 0, 1.0: 0} | required_jets(map(by_name, params.estimators))
    store, frames = Store(params.store), []
    with rule_session.progress(
        f"jets {rule_session.setting_label(snakemake.wildcards)}", len(prompts)
    ) as bar:
        for number, tokens in enumerate(prompts, 1):
            jets, computed = stored_jets(
                store,
                model,
                tokens,
                snakemake.wildcards.site,
                nodes,
                backend=engine["backend"],
                direction=params.direction,
                memory=int(engine["memory_gb"] * 2**30),
                progress=bar.update,
            )
            bar.update(number - bar.n)
            logging.info(
                "%s (%d of %d): %d of %d nodes computed, the rest was in the store",
                *(tokens.prompt_id, number, len(prompts), computed, len(nodes)),
            )
            frames.append(jets.to_frame(tokens.prompt_id))
    resolved = {**snakemake.wildcards, **dict(params.items()), "nodes": nodes}
    write_text(snakemake.output.config, json.dumps(resolved, indent=2) + "\n")
    pd.concat(frames, ignore_index=True).to_parquet(snakemake.output.jets)


rule_session.run(snakemake, main)
