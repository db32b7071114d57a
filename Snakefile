"""Replication of "When Attribution Patching Lies: Diagnosis and a Second-Order Correction".

Every table and figure is a target:  snakemake --cores 1 tables/table2.tex
In workflow/ stand the path grammar (grammar.py), artefacts.py, and what is measured (analyses.py).
"""

import sys

from snakemake.utils import min_version

min_version("9.0")
sys.path[:0] = [f"{workflow.basedir}/workflow", f"{workflow.basedir}/src"]

from deferred import defer

defer("pandas")

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
    baseline=r"[a-z0-9_]+",


include: "workflow/rules/models.smk"
include: "workflow/rules/prompts.smk"
include: "workflow/rules/attributions.smk"
include: "workflow/rules/probes.smk"
include: "workflow/rules/sweeps.smk"
include: "workflow/rules/costs.smk"
include: "workflow/rules/attention.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/accuracy.smk"
include: "workflow/rules/circuits.smk"
include: "workflow/rules/diagnosis.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        artefacts(),
