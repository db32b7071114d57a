"""Defines rules that typeset this replication as a paper: its numbers, then the PDF."""

from artefacts import FIGURES, TABLES
from code_inputs import project_file, script_code
from grammar import figure_file, log_of, path_of, table_file
from report_parts import TEXTS, figure_parts


rule numbers:
    """Write the numbers that the paper's text may say, as macros."""
    input:
        code=script_code("write_numbers"),
        counts=path_of("claims_counts"),
        comparison=path_of("comparison"),
        tables=[table_file(name, "csv") for name in TABLES],
        figures=[figure_file(name, "csv") for name in FIGURES],
        checks=project_file("data/published/all_checks.csv"),
    output:
        path_of("numbers"),
    log:
        log_of("numbers"),
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=2000,
    params:
        profile=config["profile"],
        effort=config["effort"],
    message:
        "Write the numbers of the paper's text"
    script:
        "../scripts/write_numbers.py"


rule paper:
    """Typeset every table, figure and verdict as one PDF, by LaTeX."""
    input:
        code=script_code("typeset_paper"),
        numbers=path_of("numbers"),
        ledger=table_file("claims"),
        tables=[table_file(name) for name in TABLES],
        figures=[figure_file(name) for name in FIGURES],
        template=project_file("workflow/templates/replication.tex.j2"),
        texts=[project_file(f"workflow/report/{name}.rst") for name in TEXTS],
        captions=[project_file(f"workflow/report/{name}.rst") for name in FIGURES],
        published=project_file("data/published/figures.csv"),
        contradictions=project_file("data/published/inconsistencies.csv"),
    output:
        pdf=path_of("paper"),
        tex=path_of("paper_source"),
    log:
        log_of("paper"),
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=2000,
    params:
        figures=figure_parts(config),
        profile=config["profile"],
        effort=config["effort"],
    message:
        "Typeset the paper"
    script:
        "../scripts/typeset_paper.py"
