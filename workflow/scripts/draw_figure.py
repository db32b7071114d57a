"""Run a figure's notebook (rules figure1 and on); the executed notebook is the rule's log."""

import os
from pathlib import Path

import rule_session


def main() -> None:
    import papermill

    params = snakemake.params
    # The kernel must find this checkout's library, and must not write into the project.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path("src").resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    os.environ["MPLBACKEND"] = "agg"
    try:
        papermill.execute_notebook(
            snakemake.input.notebook,
            snakemake.log[0],
            parameters={
                "inputs": {name: list(snakemake.input[name]) for name in params.inputs},
                "settings": list(params.settings),
                "params": dict(params.options),
                "provenance": {
                    "profile": params.profile,
                    "effort": params.effort,
                    "environments": rule_session.environments_line(
                        *(path for name in params.inputs for path in snakemake.input[name])
                    ),
                },
                "pdf": snakemake.output.pdf,
                "csv": snakemake.output.csv,
            },
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
        )
    except papermill.PapermillExecutionError as error:
        raise ValueError(
            f"{snakemake.input.notebook}: {error.ename}: {error.evalue}; "
            f"open {snakemake.log[0]} to see in which cell"
        ) from error


rule_session.run(snakemake, main, own_log=True)
