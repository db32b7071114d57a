"""Run a figure's notebook (rules figure1 and on); the executed notebook is the rule's log."""

import os
from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    import papermill

    params = snakemake.params
    lists = dict(zip(dict.fromkeys(params.settings), snakemake.input.prompt_lists, strict=True))
    counts = [len(pd.read_parquet(lists[name], columns=["prompt_id"])) for name in params.settings]
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
                "params": dict(params.options) | {"n_prompts": counts},
                "provenance": {"profile": params.profile, "effort": params.effort},
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
