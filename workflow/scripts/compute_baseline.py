"""One attribution that is no function of the jet, for every prompt of a setting (compute_baseline).

It scores all components; where the jets hold a sample of them, only the sampled ones are kept.
"""

from functools import partial
from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.baselines import COSTS
    from hvp_patching.cache import stored_baseline
    from hvp_patching.checking import Exact, Subject, check_baseline
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts
    from hvp_patching.sites import get_site, layer_sizes, resolve_components, sample_components

    wildcards, params, resources = snakemake.wildcards, snakemake.params, snakemake.resources
    folder = Path(snakemake.input.model).parent
    load = partial(load_model, wildcards.model, device=resources.device, folder=folder)
    model = load(params.dtype)
    exact = Exact(model, load)
    prompts = read_prompts(snakemake.input.prompts)
    site = get_site(wildcards.site)
    sizes = layer_sizes(model, site)
    scored = pd.DataFrame(resolve_components(site, sizes, None), columns=["layer", "index"])
    kept = scored
    if params.neurons_per_layer is not None:
        sample = sample_components(sizes, params.neurons_per_layer, params.seed)
        kept = pd.DataFrame(sample, columns=["layer", "index"])
    label = f"{wildcards.baseline} {rule_session.setting_label(wildcards)}"
    store, frames = rule_session.open_store(params.store), []
    with rule_session.checking(snakemake) as check:
        for tokens in rule_session.with_progress(prompts, label, len(prompts)):
            estimates = stored_baseline(
                store, model, tokens, wildcards.baseline, wildcards.site, params.direction
            )
            frame = scored.assign(estimate=estimates.numpy()).merge(kept)
            subject = Subject(model, exact, tokens, wildcards.site, params.direction)
            check_baseline(check, subject, wildcards.baseline, frame)
            frame.insert(0, "prompt_id", tokens.prompt_id)
            frames.append(
                frame.assign(estimator=wildcards.baseline, cost=COSTS[wildcards.baseline](model))
            )
    rule_session.save_table(pd.concat(frames, ignore_index=True), snakemake.output[0])


rule_session.run(snakemake, main)
