"""LaTeX's run: a source to a PDF whole or not at all, and one line for what stops it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from hvp_patching.files import write_bytes
from hvp_patching.reporting.results import ReportError

PROGRAMS = ("latexmk", "pdflatex")
INSTALL = "apt-get install latexmk texlive-latex-recommended (Debian's packages; no others needed)"
OVERFULL = re.compile(r"Overfull \\hbox \(([\d.]+)pt too wide\)[^\n]*")
SECONDS = 600


def typeset(source: Path | str, pdf: Path | str) -> str:
    """Run latexmk on a source and write its PDF; what LaTeX printed.

    Paths in the source are relative to its folder. Raises ``ReportError`` in one line where LaTeX
    or a package is missing (with the Debian packages) and where the source is wrong.
    """
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise ReportError(f"{' and '.join(missing)} not found: {INSTALL}")
    source = Path(source)
    with TemporaryDirectory(prefix="latex-") as folder:
        command = ["latexmk", "-norc", "-pdf", "-interaction=nonstopmode", "-halt-on-error"]
        command += ["-file-line-error", f"-outdir={folder}", source.name]
        done = subprocess.run(
            command,
            cwd=source.parent,
            env=os.environ | {"max_print_line": "1000"},  # messages on one line each
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
        made = Path(folder) / f"{source.stem}.pdf"
        if done.returncode or not made.is_file():
            print(done.stdout)  # into the rule's log
            raise ReportError(f"{source}: {reason(done.stdout)}")
        write_bytes(pdf, made.read_bytes())
    return done.stdout


def reason(output: str) -> str:
    """What stopped LaTeX, in one line."""
    lacking = re.search(r"File [`']([^'\n]+)' not found", output)
    if lacking:
        name = lacking[1]
        if name.endswith((".sty", ".cls", ".def", ".fd")):
            return f"LaTeX lacks {name}: {INSTALL}"
        return f"LaTeX finds no {name}: make it first"
    error = re.search(r"^(?:! |[^\s:]+:\d+: )(.+)$", output, re.M)
    return f"LaTeX stopped: {error[1].strip()}" if error else "LaTeX made no PDF"


def overfull(output: str) -> list[float]:
    """How far lines stand out of the page's margin, in points, as the last pass said."""
    last = output.rpartition("This is pdfTeX")[2]
    return [float(points) for points in OVERFULL.findall(last)]
