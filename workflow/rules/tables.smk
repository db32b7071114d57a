"""Defines rules that make the tables of the paper."""

from artefacts import FIGURES, TABLES, prompt_files
from choices import setting_files
from code_inputs import project_file, script_code


rule table1:
    """Models as loaded, beside the paper's."""
    input:
        code=script_code("write_table1"),
        models=expand("results/models/{model}.json", model=config["models"]),
        published=project_file("data/published/table01.csv"),
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
        code=script_code("write_table2"),
        errors=setting_files(
            config,
            config["table2"],
            "results/metrics/{model}/{task}/{corruption}/attn_heads.parquet",
        ),
        prompts=setting_files(
            config,
            config["table2"],
            "results/prompts/{model}/{task}/{corruption}.parquet",
        ),
        published=project_file("data/published/table02.csv"),
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
        code=script_code("write_table5"),
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


for table, make in TABLES.items():
    spec, number = make(config), table.removeprefix("table")

    rule:
        name:
            f"{table}_table" if table in FIGURES else table
        input:
            **spec.inputs,
            code=script_code("write_table", f"reporting/{table}"),
            prompt_lists=prompt_files(config, spec),
            published=(
                project_file(f"data/published/table{number:0>2}.csv")
                if number.isdigit()
                else []
            ),
        output:
            tex=report(
                f"tables/{table}.tex",
                caption=f"../report/{table}.rst",
                category="Tables",
            ),
            csv=f"tables/{table}.csv",
        log:
            f"logs/{table}.log",
        conda:
            "../envs/library.yaml"
        resources:
            mem_mb=2000,
        params:
            module=table,
            inputs=list(spec.inputs),
            settings=spec.settings,
            options=dict(spec.params),
            profile=config["profile"],
            effort=config["effort"],
            direction=config["direction"],
        message:
            f"Write Table {number}" if number.isdigit() else f"Write the {table} table"
        script:
            "../scripts/write_table.py"
