"""One modified-gradient baseline for every prompt of a setting (rule compute_baseline)."""

from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.baselines import COSTS
    from hvp_patching.cache import Store, stored_baseline
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts

    wildcards, params = snakemake.wildcards, snakemake.params
    folder = Path(snakemake.input.model).parent
    model = load_model(wildcards.model, params.dtype, snakemake.resources.device, folder)
    prompts = read_prompts(snakemake.input.prompts)
    label = f"{wildcards.baseline} {rule_session.setting_label(wildcards)}"
    store, frames = Store(params.store), []
    for tokens in rule_session.with_progress(prompts, label, len(prompts)):
        estimates = stored_baseline(
            store, model, tokens, wildcards.baseline, wildcards.site, params.direction
        )
        frames.append(
            pd.DataFrame(
                {
                    "prompt_id": tokens.prompt_id,
                    "component": range(len(estimates)),
                    "estimator": wildcards.baseline,
                    "estimate": estimates.numpy(),
                    "cost": COSTS[wildcards.baseline],
                }
            )
        )
    rule_session.save_table(pd.concat(frames, ignore_index=True), snakemake.output[0])


rule_session.run(snakemake, main)
