"""Defines rules that make the tables of the paper."""

from settings import sources, table2_settings


def artefacts():
    """Every table and figure that the configuration can make."""
    return [f"tables/table{number}.tex" for number in (1, 2, 5)]


def table2_files(pattern):
    """One file of the path grammar per row of Table 2."""
    return [
        pattern.format(model=model, task=task, corruption=corruption)
        for model, task, corruption in table2_settings(config)
    ]


rule table1:
    """Models as loaded, beside the paper's."""
    input:
        code=sources("reporting/latex", "reporting/table1"),
        models=expand("results/models/{model}.json", model=config["models"]),
        published="data/published/table01.csv",
    output:
        tex=report(
            "tables/table1.tex", caption="../report/table1.rst", category="Tables"
        ),
        csv="tables/table1.csv",
    log:
        "logs/table1.log",
    params:
        profile=config["profile"],
        effort=config["effort"],
    script:
        "../scripts/write_table1.py"


rule table2:
    """Error of every estimator against activation patching, beside the paper's numbers."""
    input:
        code=sources("metrics/*", "reporting/latex", "reporting/table2"),
        errors=table2_files(
            "results/metrics/{model}/{task}/{corruption}/attn_heads.parquet"
        ),
        prompts=table2_files("results/prompts/{model}/{task}/{corruption}.parquet"),
        published="data/published/table02.csv",
    output:
        tex=report(
            "tables/table2.tex", caption="../report/table2.rst", category="Tables"
        ),
        csv="tables/table2.csv",
    log:
        "logs/table2.log",
    params:
        profile=config["profile"],
        effort=config["effort"],
        settings=config["table2"],
        columns=config["table2_columns"],
        direction=config["direction"],
        resamples=config["metrics"]["bootstrap_resamples"],
        seed=config["metrics"]["bootstrap_seed"],
    script:
        "../scripts/write_table2.py"


rule table5:
    """Notation, with the place in the code where each symbol lives."""
    input:
        code=sources("reporting/latex", "reporting/table5"),
    output:
        tex=report(
            "tables/table5.tex", caption="../report/table5.rst", category="Tables"
        ),
        csv="tables/table5.csv",
    log:
        "logs/table5.log",
    params:
        profile=config["profile"],
        effort=config["effort"],
    script:
        "../scripts/write_table5.py"
