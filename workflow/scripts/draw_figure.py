"""Run a figure's notebook (rules figure1 and on); the executed notebook is the rule's log."""

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rule_session

KERNEL = "hvp-patching"
LAUNCHER = Path(rule_session.__file__).with_name("figure_kernel.py")
# of the user's own Jupyter, IPython and matplotlib
SET_UP = ("JUPYTER_", "IPYTHON", "MPL", "MATPLOTLIB", "PYDEVD_", "COLAB_")
LAST_WORDS = r"^(?:Fatal Python error:|[\w.]+(?:Error|Exception|Exit)\b).*"


@contextmanager
def kernel_of_our_own() -> Iterator[Path]:
    """A folder with the only kernel that Jupyter will find; it runs this very interpreter.

    Jupyter, IPython and matplotlib keep all they read and write in it. Matplotlib's list of fonts
    stays from figure to figure.
    """
    state = Path(".snakemake").resolve()
    state.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="figure-", dir=state))
    try:
        spec = folder / "kernels" / KERNEL
        spec.mkdir(parents=True)
        argv = [sys.executable, str(LAUNCHER), "-f", "{connection_file}"]
        content = {"argv": argv, "display_name": KERNEL, "language": "python"}
        (spec / "kernel.json").write_text(json.dumps(content), encoding="utf-8")
        (folder / "matplotlibrc").touch()
        for name in [name for name in os.environ if name.startswith(SET_UP)]:
            del os.environ[name]
        for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
            os.environ[name] = str(folder)
        os.environ["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")
        os.environ["IPYTHONDIR"] = str(folder / "ipython")
        os.environ["MPLCONFIGDIR"] = str(state / "matplotlib")
        os.environ["MATPLOTLIBRC"] = str(folder / "matplotlibrc")
        os.environ["MPLBACKEND"] = "agg"
        os.environ["HVP_KERNEL_LOG"] = str(folder / "kernel.log")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def last_words(folder: Path) -> str:
    """Why the kernel died, as far as it said so."""
    with contextlib.suppress(OSError):
        text = (folder / "kernel.log").read_text(encoding="utf-8", errors="replace")
        if said := re.findall(LAST_WORDS, text, re.M):
            return said[-1].strip()[:300]
    return "it was killed without a word, as the system does when memory runs out"


def prompt_counts() -> list[int]:
    """How many prompts each setting of the figure has, for the need that has fewest."""
    counts = rule_session.prompt_counts(snakemake)
    return [min(counts[name].values()) for name in snakemake.params.settings]


def main() -> None:
    with kernel_of_our_own() as folder:
        import papermill
        from nbclient.exceptions import DeadKernelError

        params = snakemake.params
        try:
            papermill.execute_notebook(
                snakemake.input.notebook,
                snakemake.log[0],
                parameters={
                    "inputs": {name: list(snakemake.input[name]) for name in params.inputs},
                    "settings": list(params.settings),
                    "params": dict(params.options) | {"n_prompts": prompt_counts()},
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
                kernel_name=KERNEL,
                progress_bar=False,
                log_output=False,
            )
        except papermill.PapermillExecutionError as error:
            raise ValueError(
                f"{snakemake.input.notebook}: {error.ename}: {error.evalue}; "
                f"open {snakemake.log[0]} to see in which cell"
            ) from error
        except (DeadKernelError, RuntimeError) as error:
            if "ernel died" not in str(error):
                raise
            raise ValueError(
                f"{snakemake.input.notebook}: the notebook's Python ended: {last_words(folder)}"
            ) from error


rule_session.run(snakemake, main, own_log=True)
