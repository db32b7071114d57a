"""Describe one model as loaded (rule describe_model)."""

import json
from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.files import write_text
    from hvp_patching.models import describe, load_model

    name = snakemake.wildcards.model
    model = load_model(name, device="cpu", folder=Path(snakemake.input.model).parent)
    write_text(snakemake.output[0], json.dumps(describe(model), indent=2) + "\n")


rule_session.run(snakemake, main)
