"""`hvp-patching verify`: whether what lies on disk is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The working folder, with results/.")
]
PLURALS = {
    "result": "results",
    "file without a record": "files without a record",
    "store entry": "store entries",
    "model": "models",
}


def verify(folder: Folder = Path()) -> None:
    """Hash results, store entries and weights again, and compare them with their records.

    Every file that is changed, truncated or missing is named, and the exit code is 1. Nothing is
    changed.
    """
    from collections import Counter

    from hvp_patching.cli.progress import counted
    from hvp_patching.verification.disk import verify as look

    with counted("verifying", "files") as report:
        found = look(folder, report)
    verdicts = [one.verdict for one in found if one.verdict]
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    for verdict in sorted(verdicts, key=lambda one: one.wrong, reverse=True):
        print(f"{verdict.path}: {verdict.says}")
    kinds = Counter(one.kind for one in found)
    looked = ", ".join(f"{n} {kind if n == 1 else PLURALS[kind]}" for kind, n in kinds.items())
    state = f"{len(wrong)} wrong" if wrong else "none changed, truncated or missing"
    print(f"{looked}: {state}")
    raise typer.Exit(1 if wrong else 0)
