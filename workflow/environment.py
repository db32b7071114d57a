"""What a user's environment must not change: numbers, or whether a rule runs at all.

Jobs inherit the environment of Snakemake's process, which the Snakefile cleans first.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(__file__).resolve().parents[1]
# They would compute in a lower precision, or by other instructions, without a word.
PRECISION = (
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_EMULATE_SINGLE_PRECISION",
    "CUBLAS_EMULATE_DOUBLE_PRECISION",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ATEN_CPU_CAPABILITY",
)
# They would make warnings errors, run other code first, change encodings or strip docstrings that
# libraries read.
INTERPRETER = (
    "PYTHONWARNINGS",
    "PYTHONSTARTUP",
    "PYTHONOPTIMIZE",
    "PYTHONINSPECT",
    "PYTHONIOENCODING",
)
# They would name another commit as the one that made an artefact (git sets them for its hooks).
GIT = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_CEILING_DIRECTORIES",
)


def isolate(warn: Callable[[str], object]) -> None:
    """Clean this process's environment, with a warning for what would have changed numbers.

    Raises WorkflowError where the working directory cannot be written.
    """
    if os.environ.get("PYTHONWARNINGS"):
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
    state = ".snakemake" if os.path.isdir(".snakemake") else "."
    if not os.access(state, os.W_OK):
        raise WorkflowError(
            f"{Path.cwd()} cannot be written and results go to the working directory; choose "
            f"another one: snakemake -s {ROOT / 'Snakefile'} -d FOLDER"
        )
    for name in PRECISION:
        if os.environ.pop(name, None):
            warn(f"{name} is not used: it would change numbers")
    for name in (*INTERPRETER, *GIT):
        os.environ.pop(name, None)
    os.environ["PYTHONUTF8"] = "1"
    for stream in (sys.stdout, sys.stderr):  # a path that this locale has no letters for
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # this checkout's library and scripts before any other's
    ours = [str(ROOT / "src"), str(ROOT / "workflow" / "scripts")]
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*ours, *others]))
