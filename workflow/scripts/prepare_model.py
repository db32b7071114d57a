"""Put one model's weights into data/models (rule prepare_model)."""

from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.models import prepare_model

    folder, local = Path(snakemake.output[0]).parent, snakemake.params.folder
    prepare_model(
        snakemake.wildcards.model,
        folder,
        folder.parent / "downloads",
        local_folder=Path(local).expanduser() if local else None,
        revision=snakemake.params.revision,
    )


rule_session.run(snakemake, main, show=True)  # downloads' bars and licence terms
