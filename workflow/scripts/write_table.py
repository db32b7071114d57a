"""A table of computed results beside the paper's (rules table3 and on)."""

import importlib

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.reporting.provenance import collect_provenance

    params = snakemake.params
    table = importlib.import_module(f"hvp_patching.reporting.{params.module}")
    counts = {}
    for name, path in zip(
        dict.fromkeys(params.settings), snakemake.input.prompt_lists, strict=True
    ):
        model, task = name.split("/", 1)
        counts[model, task] = len(pd.read_parquet(path, columns=["prompt_id"]))
    inputs = {name: list(snakemake.input[name]) for name in params.inputs}
    places = rule_session.environments(*(path for paths in inputs.values() for path in paths))
    provenance = collect_provenance(
        params.profile, params.effort, prompts=counts, environments=places
    )
    published = pd.read_csv(snakemake.input.published) if snakemake.input.published else None
    options = {name: params[name] for name in ("profile", "settings", "effort", "direction")}
    table.write(
        inputs,
        options | params.options,
        provenance,
        published,
        snakemake.output.tex,
        snakemake.output.csv,
    )


rule_session.run(snakemake, main)
