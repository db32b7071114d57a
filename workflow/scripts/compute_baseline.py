"""One modified-gradient baseline for every prompt of a setting (rule compute_baseline)."""

from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.baselines import BASELINES, COSTS
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts

    wildcards, params = snakemake.wildcards, snakemake.params
    if wildcards.baseline not in BASELINES:
        known = ", ".join(BASELINES)
        raise ValueError(f"unknown baseline '{wildcards.baseline}' in config; known: {known}")
    folder = Path(snakemake.input.model).parent
    model = load_model(wildcards.model, params.dtype, snakemake.resources.device, folder)
    prompts = read_prompts(snakemake.input.prompts)
    label = f"{wildcards.baseline} {rule_session.setting_label(wildcards)}"
    frames = [
        pd.DataFrame(
            {
                "prompt_id": tokens.prompt_id,
                "estimate": BASELINES[wildcards.baseline](
                    model, tokens, wildcards.site, params.direction
                ).numpy(),
                "estimator": wildcards.baseline,
                "cost": COSTS[wildcards.baseline],
            }
        )
        for tokens in rule_session.with_progress(prompts, label, len(prompts))
    ]
    for frame in frames:
        frame.insert(1, "component", range(len(frame)))
    rule_session.save_table(pd.concat(frames, ignore_index=True), snakemake.output[0])


rule_session.run(snakemake, main)
