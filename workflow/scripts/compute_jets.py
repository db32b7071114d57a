"""Derivatives of the patch paths of one setting, prompt by prompt (rule compute_jets)."""

import json
import logging
from functools import partial
from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.cache import stored_jets
    from hvp_patching.checking import Exact, Subject, check_jets
    from hvp_patching.estimators import by_name, required_jets
    from hvp_patching.files import write_text
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts
    from hvp_patching.sites import get_site, layer_sizes, sample_components

    wildcards, params, resources = snakemake.wildcards, snakemake.params, snakemake.resources
    nodes = {0.0: 0, 1.0: 0} | required_jets(map(by_name, params.estimators))
    prompts = read_prompts(snakemake.input.prompts)
    folder = Path(snakemake.input.model).parent
    load = partial(load_model, wildcards.model, device=resources.device, folder=folder)
    model = load(params.dtype)
    exact, memory = Exact(model, load), resources.rows_mib * 2**20
    components = None
    if params.neurons_per_layer is not None:
        sizes = layer_sizes(model, get_site(wildcards.site))
        components = sample_components(sizes, params.neurons_per_layer, params.seed)
    store, frames = rule_session.open_store(params.store), []
    label = f"jets {rule_session.setting_label(wildcards)}"
    bars = rule_session.progress(label, len(prompts))
    with bars as bar, rule_session.checking(snakemake) as check:
        for number, tokens in enumerate(prompts, 1):
            jets, computed = stored_jets(
                store,
                model,
                tokens,
                wildcards.site,
                nodes,
                backend=params.backend,
                components=components,
                direction=params.direction,
                memory=memory,
                progress=bar.update,
            )
            setting = (wildcards.site, params.direction, params.backend, memory)
            check_jets(check, Subject(model, exact, tokens, *setting), jets)
            bar.update(number - bar.n)
            logging.info(
                "%s (%d of %d): %d of %d nodes computed, the rest was in the store",
                *(tokens.prompt_id, number, len(prompts), computed, len(nodes)),
            )
            frames.append(jets.to_frame(tokens.prompt_id))
    resolved = {**wildcards, **dict(params.items()), "nodes": nodes, "prompts": len(prompts)}
    write_text(snakemake.output.config, json.dumps(resolved, indent=2) + "\n")
    rule_session.save_table(pd.concat(frames, ignore_index=True), snakemake.output.jets)


rule_session.run(snakemake, main)
