"""Table 2: error of every estimator, beside the paper's (rule table2)."""

from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.metrics import summarize_errors
    from hvp_patching.reporting import (
        collect_provenance,
        load_published,
        table2_frame,
        write_table2,
    )

    params = snakemake.params
    settings = [tuple(setting.split("/")) for setting in params.settings]
    errors, metrics, counts = [], {}, {}
    for (model, task), error_path, prompt_path in zip(
        settings, snakemake.input.errors, snakemake.input.prompts, strict=True
    ):
        frame = rule_session.read_table(error_path)
        shown = frame["estimator"].isin(params.columns.values())
        errors.append(frame[shown].assign(model=model, task=task))
        prompts = pd.read_parquet(prompt_path, columns=["metric"])
        metrics[model, task] = prompts["metric"].iloc[0]
        counts[model, task] = len(prompts)
    summary = summarize_errors(
        pd.concat(errors, ignore_index=True), n_resamples=params.resamples, seed=params.seed
    ).assign(block=params.profile)
    published = load_published(Path(snakemake.input.published).parent, 2)
    provenance = collect_provenance(
        params.profile, params.effort, prompts=counts, environments=rule_session.environments()
    )
    table = table2_frame(summary, published, metrics, estimators=params.columns)
    write_table2(table, provenance, snakemake.output.tex, snakemake.output.csv, params.direction)


rule_session.run(snakemake, main)
