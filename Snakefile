"""Replication of "When Attribution Patching Lies: Diagnosis and a Second-Order Correction".

Every table and figure is a target:  snakemake --cores 1 tables/table2.tex
Path grammar, with full-word wildcards:
  data/models/{model}/                                            converted weights
  results/prompts/{model}/{task}/{corruption}.parquet             validated, tokenised pairs
  results/jets/{model}/{task}/{corruption}/{site}.parquet         f, f', f'' at nodes of the path
  results/baselines/{model}/{task}/{corruption}/{site}/{baseline}.parquet
  results/scores/{model}/{task}/{corruption}/{site}.parquet       estimates beside the truth
  results/metrics/{model}/{task}/{corruption}/{site}.parquet      errors per prompt
  results/probes/{model}/{task}/{corruption}/{site}.parquet       Hessian–vector products
  results/sweeps/{model}/{task}/{corruption}/{site}.parquet       many estimators, few components
  results/metrics/{model}/{task}/{corruption}/{site}/{analysis}.parquet
  tables/table{number}.tex  tables/table{number}.csv  figures/figure{number}.pdf  ….csv
  results/comparison.csv                                          every published cell beside ours
"""

import sys

from snakemake.utils import min_version

min_version("9.0")
sys.path[:0] = [f"{workflow.basedir}/workflow", f"{workflow.basedir}/src"]

from artefacts import artefacts
from config_check import check_config, default_file
from environment import isolate

isolate(logger.warning)


configfile: default_file(workflow, "config/config.yaml")


check_config(config)


wildcard_constraints:
    model=r"[a-z0-9._-]+",
    task=r"[a-z_]+",
    corruption=r"[a-z_]+",
    site=r"[a-z_]+",
    baseline=r"[a-z_]+",


include: "workflow/rules/models.smk"
include: "workflow/rules/prompts.smk"
include: "workflow/rules/attributions.smk"
include: "workflow/rules/probes.smk"
include: "workflow/rules/diagnosis.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"


rule all:
    default_target: True
    input:
        artefacts(),
