"""What Snakemake recorded of a run: the rule, the inputs, the log and the time of each file."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("src/", "workflow/", "data/published/", "notebooks/")
FOLDER = Path(".snakemake") / "metadata"


@dataclass(frozen=True)
class Made:
    """How a file was made; ``start`` and ``end`` are seconds since 1970."""

    rule: str
    inputs: tuple[str, ...]
    log: str
    start: float
    end: float

    @property
    def job(self) -> tuple[str, str, float]:
        """The same for all files that one job made."""
        return self.rule, self.log, self.start


@dataclass(frozen=True)
class Run:
    """The jobs behind the files of a working directory."""

    made: Mapping[str, Made]

    def rule(self, path: str) -> str:
        """The rule that made a file, "" where none is recorded."""
        return self.made[path].rule if path in self.made else ""

    def log(self, path: str) -> str:
        """The log of the job that made a file, "" where none is recorded."""
        return self.made[path].log if path in self.made else ""

    def before(self, *paths: str) -> set[str]:
        """The files themselves and all that they were made of, as far as recorded."""
        found: set[str] = set()
        todo = [path for path in paths if path in self.made]
        while todo:
            path = todo.pop()
            if path not in found:
                found.add(path)
                todo += [name for name in self.made[path].inputs if name in self.made]
        return found

    def minutes(self, *paths: str) -> float | None:
        """Minutes of all jobs behind the files, each once; None where nothing is recorded.

        It is the sum of the jobs' own times: jobs that ran side by side count apart, and a prompt
        that a job found in the store took no time.
        """
        jobs = {self.made[path].job: self.made[path] for path in self.before(*paths)}
        if not jobs:
            return None
        return sum(max(0.0, job.end - job.start) for job in jobs.values()) / 60

    def rules(self) -> dict[str, float]:
        """Minutes of every rule, in the order of their names."""
        jobs = {made.job: made for made in self.made.values()}
        total: dict[str, float] = {}
        for job in jobs.values():
            total[job.rule] = total.get(job.rule, 0.0) + max(0.0, job.end - job.start) / 60
        return dict(sorted(total.items()))


def read_run(folder: Path | str = FOLDER, root: Path | str = ".") -> Run:
    """The record of the files that are still there; empty where Snakemake kept none."""
    folder, root = Path(folder), Path(root)
    made = {path: one for path, one in _records(folder) if (root / path).exists()}
    return Run(made)


def _records(folder: Path) -> Iterator[tuple[str, Made]]:
    for entry in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if not entry.is_file():
            continue
        name = "".join(part.removeprefix("@") for part in entry.relative_to(folder).parts)
        try:
            path = base64.b64decode(name, validate=True).decode()
            fields = json.loads(entry.read_text(encoding="utf-8"))
            inputs = _files(fields["input"])
            log = next(iter(fields["log"]), "")
            times = float(fields["starttime"]), float(fields["endtime"])
            yield path, Made(str(fields["rule"]), inputs, log, *times)
        except (binascii.Error, ValueError, KeyError, TypeError):
            continue  # of another version of Snakemake, or of a job that did not end


def _files(inputs: Iterable[str]) -> tuple[str, ...]:
    return tuple(path for path in inputs if not path.startswith(SOURCES))
