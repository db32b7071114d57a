"""A table of computed results beside the paper's (rules table1 and on)."""

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.reporting.provenance import collect_provenance, stated_counts
    from hvp_patching.reporting.results import read_results
    from hvp_patching.reporting.tables import load_table
    from hvp_patching.settings import Setting

    params = snakemake.params
    settings = [Setting.parse(name) for name in params.settings]
    inputs = {name: list(snakemake.input[name]) for name in params.inputs}
    options = {name: params[name] for name in ("profile", "direction")} | params.options
    results = read_results(inputs, settings, params.sites, options)
    counts = {
        Setting.parse(name): stated_counts(of_needs)
        for name, of_needs in rule_session.prompt_counts(snakemake).items()
    }
    models = results["model"]["model"] if "model" in inputs else ()
    places = rule_session.environments(*(path for paths in inputs.values() for path in paths))
    provenance = collect_provenance(
        params.profile, params.effort, models, counts, environments=places
    )
    published = pd.read_csv(snakemake.input.published) if snakemake.input.published else None
    table = load_table(params.table)
    output = snakemake.output
    table.write(results, provenance, published, output.tex, output.csv, output.html)


rule_session.run(snakemake, main)
