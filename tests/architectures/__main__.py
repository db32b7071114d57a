"""Try architectures and write what they do into expected.csv and docs/models.md.

    python -m tests.architectures               write docs/models.md from expected.csv
    python -m tests.architectures llama phi3    try these (all: "all"), then write both

A cell that fails (a wrong number, a crash) is printed and not written.
"""

from __future__ import annotations

import logging
import sys

import torch

from . import expected
from .cells import cells
from .configs import architectures


def main(names: list[str]) -> int:
    """Exit status 1 where a cell failed."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    known = {str(architecture): architecture for architecture in architectures()}
    chosen = list(known) if names == ["all"] else names
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; choose of: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = False
    for name in chosen:
        found = list(cells(known[name]))
        for cell in found:
            print(
                f"{name:24} {cell.site:10} {cell.backend:8} {cell.outcome:7} "
                f"{cell.worst:.1e} {cell.seconds:5.1f} s  {cell.reason}",
                flush=True,
            )
        if any(cell.outcome == "fails" for cell in found):
            failed = True
        else:
            expected.write(expected.row_of(cell) for cell in found)
    expected.PAGE.write_text(expected.page(expected.read()), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
