"""Defines rules that make figures: each is a notebook, run by papermill on computed results."""

from artefacts import FIGURES, artefact, labels_of, prompt_files
from code_inputs import notebook_closure, notebook_title, project_file
from grammar import figure_file, log_of

for figure, line in FIGURES.items():
    spec, notebook = artefact(config, line), f"notebooks/{line.notebook}.ipynb"

    rule:
        name:
            figure
        input:
            **spec.inputs,
            notebook=project_file(notebook),
            code=notebook_closure(notebook)
            + [project_file("workflow/scripts/figure_kernel.py")],
            prompt_lists=prompt_files(config, spec),
        output:
            pdf=figure_file(figure),
            csv=figure_file(figure, "csv"),
            svg=report(
                figure_file(figure, "svg"),
                caption=f"../report/{figure}.rst",
                category="Figures",
                labels=labels_of(figure, notebook_title(notebook)),
            ),
        log:
            log_of(figure, ending="ipynb"),
        conda:
            "../envs/library.yaml"
        resources:
            mem_mb=2000,
        params:
            inputs=list(spec.inputs),
            settings=spec.settings,
            prompts=dict(spec.prompts),
            options=dict(spec.options),
            profile=config["profile"],
            effort=config["effort"],
        message:
            f"Draw {figure.replace('figure', 'Figure ')}"
        script:
            "../scripts/draw_figure.py"
