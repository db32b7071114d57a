"""Progress with the time left: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_PER_LINE = 30


@contextmanager
def bar(label: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
    """Gives what is to be called with how much more of `total` is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(label, total, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn(f"of {total:g} {unit}"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(label, total=total)
        yield lambda step: shown.advance(task, step)


@contextmanager
def counted(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """The same where the total is known only to what calls it: with how many of how many."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn(f"{{task.completed:g}} of {{task.total:g}} {unit}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(label, total=1)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _lines(label: str, total: float, unit: str) -> Callable[[float], None]:
    begun = said = time.monotonic()
    done = 0.0

    def advance(step: float) -> None:
        nonlocal done, said
        done += step
        now = time.monotonic()
        if now - said < SECONDS_PER_LINE or not 0 < done < total:
            return
        said, gone = now, now - begun
        left = gone * (total - done) / done
        line = f"{label}: {done:.1f} of {total:g} {unit}, {clock(gone)} gone, {clock(left)} left"
        print(line, file=sys.stderr, flush=True)

    return advance


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
