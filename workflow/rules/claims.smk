"""Defines rules that set our numbers against the paper's."""

from artefacts import compared
from code_inputs import project_file, script_code
from grammar import log_of, path_of, table_file


rule compare_with_paper:
    """Every published cell of Tables 2 to 18 with ours, or why there is none."""
    input:
        code=script_code(
            "compare_with_paper", *(f"reporting/tables/{name}" for name in compared())
        ),
        tables=[table_file(name, "csv") for name in compared()],
        published=expand(
            project_file("data/published/table{number:02d}.csv"),
            number=[2, 3, 4, *range(6, 19)],
        ),
    output:
        report(
            path_of("comparison"),
            caption="../report/comparison.rst",
            category="Comparison",
            labels={
                "artefact": "Comparison",
                "shows": "Every published number beside ours",
            },
        ),
    log:
        log_of("compare_with_paper"),
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=2000,
    params:
        profile=config["profile"],
    message:
        "Compare our tables with the paper's"
    script:
        "../scripts/compare_with_paper.py"
