"""One analysis of a setting's results, or of those of several settings (rules measure_…)."""

import importlib

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.aggregates import FRAMES, overall_frame, read_result
    from hvp_patching.settings import Setting

    params, paths = snakemake.params, snakemake.input.data
    rule_session.note_files(*paths)
    if params.settings:
        settings = [Setting.parse(name) for name in params.settings]
        inputs = [read_result(params.reads[0], paths, settings)]
    else:
        inputs = [
            (overall_frame(name) or FRAMES[name]).check(pd.read_parquet(path), path)
            for name, path in zip(params.reads, paths, strict=True)
        ]
    if snakemake.input.get("published"):
        inputs.append(pd.read_csv(snakemake.input.published))
    module, function = params.function.split(".")
    analyse = getattr(importlib.import_module(f"hvp_patching.metrics.{module}"), function)
    frame = overall_frame(params.result) or FRAMES[params.result]
    table = frame.check(analyse(*inputs, **params.options))
    rule_session.save_table(table, snakemake.output[0])


rule_session.run(snakemake, main)
