"""The kernel in which a figure's notebook runs: this interpreter, and nothing of the user's set-up.

Started by `draw_figure.py`. Neither IPython's nor Jupyter's configuration is read, nor start-up
files, nor any matplotlibrc.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path


def main() -> None:
    # what the kernel says as it dies is all that tells why
    said = os.open(os.environ["HVP_KERNEL_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 2)
    faulthandler.enable()
    project = Path.cwd()
    os.chdir(Path(os.environ["MATPLOTLIBRC"]).parent)  # a matplotlibrc here would come before ours
    import matplotlib  # noqa: F401

    os.chdir(project)
    from ipykernel.kernelapp import IPKernelApp

    class Kernel(IPKernelApp):
        def load_config_file(self, suppress_errors: bool | None = True) -> None:
            """Read none."""

    sys.argv[1:] += ["--IPKernelApp.exec_PYTHONSTARTUP=False"]
    Kernel.launch_instance()


main()
