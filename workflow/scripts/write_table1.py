"""Table 1: models as loaded (rule table1)."""

import json
from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.reporting import (
        collect_provenance,
        load_published,
        table1_frame,
        write_table1,
    )

    models = [json.loads(Path(path).read_text()) for path in snakemake.input.models]
    published = load_published(Path(snakemake.input.published).parent, 1)
    names = [model["model"] for model in models]
    provenance = collect_provenance(snakemake.params.profile, snakemake.params.effort, names)
    frame = table1_frame(models, published)
    write_table1(frame, provenance, snakemake.output.tex, snakemake.output.csv)


rule_session.run(snakemake, main)
