"""Defines rules that make the report: one page with every verdict, table and figure."""

from artefacts import FIGURES, TABLES, figure_paths, labels_of, table_paths
from code_inputs import project_file, script_code
from grammar import log_of, path_of
from report_parts import PAGE, TEXTS, about_rules, figure_parts, table_parts


report: "../report/workflow.rst"


rule report:
    """Gather ledger, tables and figures on one page that opens without a network."""
    input:
        code=script_code("write_report"),
        claims=path_of("claims"),
        comparison=path_of("comparison"),
        tables=[path for name in TABLES for path in table_paths(name).values()],
        figures=[path for name in FIGURES for path in figure_paths(name).values()],
        page=[project_file(path) for path in PAGE],
        texts=[project_file(f"workflow/report/{name}.rst") for name in TEXTS],
        captions=[project_file(f"workflow/report/{name}.rst") for name in FIGURES],
        published=project_file("data/published/claims.csv"),
        contradictions=project_file("data/published/inconsistencies.csv"),
    output:
        report(
            path_of("report"),
            caption="../report/report.rst",
            category="Start here",
            labels=labels_of("report", "Every verdict, table and figure on one page"),
        ),
    log:
        log_of("report"),
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=2000,
    params:
        tables=table_parts(config),
        figures=figure_parts(config),
        rules=about_rules(workflow.rules),
        profile=config["profile"],
        effort=config["effort"],
    message:
        "Write the report"
    script:
        "../scripts/write_report.py"


include: "paper.smk"
