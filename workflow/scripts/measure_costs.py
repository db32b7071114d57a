"""Seconds of forward passes, patching, derivatives and reverse passes (rule measure_costs)."""

from functools import partial
from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.checking import Exact, Subject, check_jets
    from hvp_patching.costs import measure_costs, timed_jets
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts

    wildcards, params, resources = snakemake.wildcards, snakemake.params, snakemake.resources
    tokens = read_prompts(snakemake.input.prompts)[0]
    folder = Path(snakemake.input.model).parent
    load = partial(load_model, wildcards.model, device=resources.device, folder=folder)
    model, memory = load(params.dtype), resources.rows_mib * 2**20
    rule_session.note_model(model)
    with rule_session.checking(snakemake) as check:
        costs = measure_costs(
            model,
            tokens,
            wildcards.site,
            params.repeats,
            params.direction,
            params.backend,
            memory=memory,
            baselines=params.baselines,
        )
        if check.on:
            check.note("seconds are not measured twice; a few of the timed derivatives are")
            setting = (wildcards.site, params.direction, params.backend, memory)
            subject = Subject(model, Exact(model, load), tokens, *setting)
            check_jets(check, subject, timed_jets(model, tokens, *setting))
    rule_session.save_table(costs, snakemake.output[0])


rule_session.run(snakemake, main)
