"""`hvp-patching verify`: whether what lies on disk is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The working folder, with results/.")
]


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
    wrong = [one.verdict for one in found if one.verdict and one.verdict.wrong]
    notes = Counter(one.verdict.says for one in found if one.verdict and not one.verdict.wrong)
    for verdict in wrong:
        print(f"{verdict.path}: {verdict.says}")
    kinds = Counter(one.kind for one in found)
    plurals = {"result": "results", "store entry": "store entries", "model": "models"}
    looked = ", ".join(f"{n} {kind if n == 1 else plurals[kind]}" for kind, n in kinds.items())
    for says, count in notes.items():
        print(f"{count} {'file' if count == 1 else 'files'} that {says}")
    verdict_ = f"{len(wrong)} wrong" if wrong else "all as they were written"
    print(f"{looked}: {verdict_}")
    raise typer.Exit(1 if wrong else 0)
