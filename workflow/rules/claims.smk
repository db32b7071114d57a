"""Defines rules that set our numbers against the paper's."""

from artefacts import compared, labels_of
from claims_inputs import (
    CLAIMS,
    QUERIES,
    SCOPE,
    SHAPES,
    claims_files,
    claims_options,
    evidence_files,
    timings,
)
from code_inputs import ROOT, project_file, script_code
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


asked = evidence_files(config)


rule build_claims:
    """A verdict for every claim of the paper, from results, its own numbers and formulas."""
    input:
        code=script_code("build_claims"),
        claims=project_file(CLAIMS),
        scope=project_file(SCOPE),
        queries=project_file(QUERIES),
        shapes=project_file(SHAPES),
        files=claims_files(),
        data=list(dict.fromkeys(one["path"] for one in asked)),
    output:
        csv=report(
            path_of("claims"),
            caption="../report/claims.rst",
            category="Claims",
            labels=labels_of("claims", "A verdict for every claim"),
        ),
        checks=path_of("claims_checks"),
        counts=path_of("claims_counts"),
        tex=table_file("claims"),
    log:
        log_of("build_claims"),
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=2000,
    params:
        evidence=asked,
        timings=timings(config, asked),
        root=str(ROOT),
        profile=config["profile"],
        effort=config["effort"],
        options=claims_options(config),
    message:
        "Judge every claim of the paper"
    script:
        "../scripts/build_claims.py"
