"""What every script of the workflow shares: one log file, one readable line on failure."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

TERMINAL = sys.stderr


def run(snakemake: Any, main: Callable[[], None]) -> None:
    """Call `main` with everything it prints in the rule's log; on failure exit with one line.

    Errors the user can act on (ValueError, a full disk) are that line; the log has the traceback.
    """
    with open(snakemake.log[0], "w", buffering=1, encoding="utf-8") as log:
        try:
            with contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
                logging.basicConfig(
                    stream=log, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
                )
                logging.getLogger("httpx").setLevel(logging.WARNING)
                with threads(snakemake.threads):
                    main()
        except Exception as error:
            with contextlib.suppress(OSError):
                traceback.print_exc(file=log)
            TERMINAL.write(f"\n{snakemake.rule}: {explain(error, snakemake.log[0])}\n")
            raise SystemExit(1) from None


def explain(error: Exception, log: str) -> str:
    """One line for the terminal: what happened and what to do."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run the same command again"
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} (traceback in {log})"


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let torch use the threads that Snakemake granted this rule."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, n))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def progress(label: str, total: int) -> tqdm:
    """A progress bar with time left on the terminal, in units of prompts."""
    interval = 1.0 if TERMINAL.isatty() else 30.0
    return tqdm(
        total=total,
        desc=label,
        unit="prompt",
        file=TERMINAL,
        mininterval=interval,
        maxinterval=interval,
        bar_format="{desc}: {percentage:3.0f}%|{bar:20}| {n:.1f}/{total} [{elapsed}<{remaining}]",
    )


def setting_label(wildcards: Any) -> str:
    """'model task' of a rule's wildcards, for bars and messages."""
    return f"{wildcards.model} {wildcards.task}"


def with_progress(items: Iterable[Any], label: str, total: int) -> Iterator[Any]:
    """Iterate with one step of the bar per item."""
    with progress(label, total) as bar:
        for item in items:
            yield item
            bar.update(1)
