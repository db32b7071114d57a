"""One published autoencoder from the Hub (rule fetch_autoencoder)."""

from pathlib import Path

import rule_session


def main() -> None:
    from hvp_patching.features.published import fetch_autoencoder

    wildcards = snakemake.wildcards
    fetch_autoencoder(wildcards.model, wildcards.hook, Path(snakemake.output.config).parent)


rule_session.run(snakemake, main, show=True)  # downloads' bars
