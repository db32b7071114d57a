"""Defines rules that make the tables: each shows computed results beside the paper's."""

from artefacts import FIGURES, TABLES, artefact, caption_of, labels_of, prompt_files
from code_inputs import project_file, script_code
from grammar import log_of, table_file

from hvp_patching.reporting.tables import about, load_table

for table in TABLES:
    spec, number = artefact(config, load_table(table)), table.removeprefix("table")

    rule:
        name:
            f"{table}_table" if table in FIGURES else table
        input:
            script_code("write_table", f"reporting/tables/{table}"),
            **spec.inputs,
            prompt_lists=prompt_files(config, spec),
            published=(
                project_file(f"data/published/table{number:0>2}.csv")
                if load_table(table).paper
                else []
            ),
        output:
            tex=table_file(table),
            csv=table_file(table, "csv"),
            html=report(
                table_file(table, "html"),
                caption=caption_of(table),
                category="Tables",
                labels=labels_of(table, about(table)),
            ),
        log:
            log_of(table),
        conda:
            "../envs/library.yaml"
        resources:
            mem_mb=2000,
        params:
            inputs=list(spec.inputs),
            settings=spec.settings,
            prompts=dict(spec.prompts),
            sites=spec.sites,
            options=dict(spec.options),
            table=table,
            about=about(table),
            profile=config["profile"],
            effort=config["effort"],
            direction=config["direction"],
        message:
            f"Write Table {number}" if number.isdigit() else f"Write the {table} table"
        script:
            "../scripts/write_table.py"
