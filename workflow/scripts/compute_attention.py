"""Attention of the clean run, and what it says about each head's role (rule compute_attention)."""

from functools import partial
from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.checking import Exact, Subject, check_attention
    from hvp_patching.circuits import (
        attention_patterns,
        mean_role_scores,
        patterns_frame,
        role_scores,
    )
    from hvp_patching.models import load_model
    from hvp_patching.prompts import read_prompts

    wildcards, params, resources = snakemake.wildcards, snakemake.params, snakemake.resources
    prompts = read_prompts(snakemake.input.prompts)
    folder = Path(snakemake.input.model).parent
    load = partial(load_model, wildcards.model, device=resources.device, folder=folder)
    model = load(params.dtype)
    exact = Exact(model, load)
    rule_session.note_model(model)
    scores, first = [], None
    label = f"attention {rule_session.setting_label(wildcards)}"
    with rule_session.checking(snakemake) as check:
        for tokens in rule_session.with_progress(prompts, label, len(prompts)):
            patterns = attention_patterns(model, tokens)
            check_attention(check, Subject(model, exact, tokens, "attn_heads"), patterns)
            scores.append(role_scores(patterns, tokens))
            if first is None:
                texts = [model.tokenizer.decode([token]) for token in tokens.clean_ids]
                first = patterns_frame(patterns, tokens, texts)
    rule_session.save_table(first, snakemake.output.patterns)
    rule_session.save_table(mean_role_scores(scores), snakemake.output.roles)


rule_session.run(snakemake, main)
