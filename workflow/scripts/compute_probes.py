"""Hessian–vector products along the patch paths of one setting (rule compute_probes)."""

from functools import partial
from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.cache import stored_probes
    from hvp_patching.checking import Exact, Subject, check_probes
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts

    wildcards, params, resources = snakemake.wildcards, snakemake.params, snakemake.resources
    prompts = read_prompts(snakemake.input.prompts)
    folder = Path(snakemake.input.model).parent
    load = partial(load_model, wildcards.model, device=resources.device, folder=folder)
    model = load(params.dtype)
    exact, memory = Exact(model, load), resources.rows_mib * 2**20
    store, frames = rule_session.open_store(params.store), []
    label = f"probes {rule_session.setting_label(wildcards)}"
    bars = rule_session.progress(label, len(prompts))
    with bars as bar, rule_session.checking(snakemake) as check:
        for number, tokens in enumerate(prompts, 1):
            frame = stored_probes(
                store,
                model,
                tokens,
                wildcards.site,
                tuple(params.nodes),
                direction=params.direction,
                memory=memory,
                progress=bar.update,
            )
            # the probes are made by reverse passes: Taylor mode is the other backend
            setting = (wildcards.site, params.direction, "autograd", memory)
            check_probes(check, Subject(model, exact, tokens, *setting), frame, params.nodes)
            bar.update(number - bar.n)
            frame.insert(0, "prompt_id", tokens.prompt_id)
            frames.append(frame)
    rule_session.save_table(pd.concat(frames, ignore_index=True), snakemake.output[0])


rule_session.run(snakemake, main)
