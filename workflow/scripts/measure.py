"""One analysis of a setting's scores, probes or sweep (rules measure_…)."""

import importlib

import rule_session


def main() -> None:
    params = snakemake.params
    module = importlib.import_module(f"hvp_patching.metrics.{params.module}")
    analyse = getattr(module, params.function)
    frame = analyse(rule_session.read_table(snakemake.input.data), **params.options)
    rule_session.save_table(frame, snakemake.output[0])


rule_session.run(snakemake, main)
