"""Defines rules that make the tables of the paper."""

from settings import sources, table2_files

PRESENTATION = ("reporting/latex", "reporting/provenance")


rule table1:
    """Models as loaded, beside the paper's."""
    input:
        code=sources("reporting/table1", *PRESENTATION),
        models=expand("results/models/{model}.json", model=config["models"]),
        published="data/published/table01.csv",
    output:
        tex=report(
            "tables/table1.tex", caption="../report/table1.rst", category="Tables"
        ),
        csv="tables/table1.csv",
    log:
        "logs/table1.log",
    conda:
        "../envs/library.yaml"
    params:
        profile=config["profile"],
        effort=config["effort"],
    message:
        "Write Table 1"
    script:
        "../scripts/write_table1.py"


rule table2:
    """Error of every estimator against activation patching, beside the paper's numbers."""
    input:
        code=sources(
            "metrics/bootstrap",
            "metrics/summary",
            "reporting/table2",
            "reporting/style",
            *PRESENTATION,
        ),
        errors=table2_files(
            config, "results/metrics/{model}/{task}/{corruption}/attn_heads.parquet"
        ),
        prompts=table2_files(
            config, "results/prompts/{model}/{task}/{corruption}.parquet"
        ),
        published="data/published/table02.csv",
    output:
        tex=report(
            "tables/table2.tex", caption="../report/table2.rst", category="Tables"
        ),
        csv="tables/table2.csv",
    log:
        "logs/table2.log",
    conda:
        "../envs/library.yaml"
    params:
        profile=config["profile"],
        effort=config["effort"],
        settings=config["table2"],
        columns=config["table2_columns"],
        direction=config["direction"],
        resamples=config["metrics"]["bootstrap_resamples"],
        seed=config["metrics"]["bootstrap_seed"],
    message:
        "Write Table 2"
    script:
        "../scripts/write_table2.py"


rule table5:
    """Notation, with the place in the code where each symbol lives."""
    input:
        code=sources("reporting/table5", *PRESENTATION),
    output:
        tex=report(
            "tables/table5.tex", caption="../report/table5.rst", category="Tables"
        ),
        csv="tables/table5.csv",
    log:
        "logs/table5.log",
    conda:
        "../envs/library.yaml"
    params:
        profile=config["profile"],
        effort=config["effort"],
    message:
        "Write Table 5"
    script:
        "../scripts/write_table5.py"
