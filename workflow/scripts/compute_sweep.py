"""Many estimators on each prompt's components of largest effect (rule compute_sweep)."""

from functools import partial
from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.checking import Exact, Subject, check_scores
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts
    from hvp_patching.sweeps import sweep_largest

    wildcards, params, resources = snakemake.wildcards, snakemake.params, snakemake.resources
    prompts = read_prompts(snakemake.input.prompts)
    folder = Path(snakemake.input.model).parent
    frames: list[pd.DataFrame] = []
    load = partial(load_model, wildcards.model, device=resources.device, folder=folder)
    model = load(params.dtype)
    exact, memory = Exact(model, load), resources.rows_mib * 2**20
    setting = (wildcards.site, params.direction, params.backend, memory)
    label = f"sweep {rule_session.setting_label(wildcards)}"
    bars = rule_session.progress(label, len(prompts))
    with bars as bar, rule_session.checking(snakemake) as check:
        sweeps = sweep_largest(
            rule_session.open_store(params.store),
            model,
            prompts,
            wildcards.site,
            rule_session.read_table(snakemake.input.jets),
            params.estimators,
            params.top_k,
            backend=params.backend,
            direction=params.direction,
            memory=memory,
            progress=bar.update,
        )
        for tokens, frame in zip(prompts, sweeps, strict=True):
            check_scores(check, Subject(model, exact, tokens, *setting), frame)
            frames.append(frame)
            bar.update(len(frames) - bar.n)
    rule_session.save_table(pd.concat(frames, ignore_index=True), snakemake.output[0])


rule_session.run(snakemake, main)
