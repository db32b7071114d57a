"""codecheck.yml: which files a run made, with checksum, command and minutes.

The layout is CODECHECK's configuration, version 1.0 (codecheck.org.uk/spec/config/1.0): manifest
and paper are written here; codechecker, report, summary and certificate are the codechecker's,
and stay as they are. sha256, command and minutes of an entry, and the node `hvp_run`, are ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from hvp_patching.files import write_text
from hvp_patching.reporting.results import ReportError

FILE, FOLDER = "codecheck.yml", "reference"
VERSION = "https://codecheck.org.uk/spec/config/1.0/"
RUN = "hvp_run"


@dataclass(frozen=True)
class Entry:
    """A file of the reference: what it is, the command that makes it, minutes of all behind it.

    minutes is None where Snakemake kept no record.
    """

    file: str
    comment: str
    command: str
    minutes: float | None
    sha256: str

    @property
    def made(self) -> str:
        """The file as a run makes it: 'tables/table2.csv' of 'reference/tables/table2.csv'."""
        return self.file.removeprefix(f"{FOLDER}/")


@dataclass(frozen=True)
class Manifest:
    """The reference's entries, and facts of the run that made them."""

    entries: Sequence[Entry]
    run: Mapping[str, Any]

    def minutes(self) -> dict[str, float]:
        """Minutes of every file as a run makes it, where they are recorded."""
        return {one.made: one.minutes for one in self.entries if one.minutes is not None}


def checksum(path: Path | str) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_manifest(root: Path | str) -> Manifest | None:
    """The manifest in a folder's codecheck.yml, None without one; ``ReportError`` for another."""
    path = Path(root) / FILE
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = [Entry(**one) for one in content["manifest"]]
        return Manifest(entries, content[RUN])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ReportError(f"{path} is no manifest of ours: {reason}; write it anew") from None


def write_manifest(root: Path | str, manifest: Manifest, paper: Mapping[str, Any]) -> None:
    """Write codecheck.yml; what a codechecker has added to an older one is kept."""
    path = Path(root) / FILE
    kept: dict[str, Any] = {}
    if path.is_file():
        kept = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    content = kept | {
        "version": VERSION,
        "paper": dict(paper),
        "manifest": [asdict(one) for one in manifest.entries],
        RUN: dict(manifest.run),
    }
    first = ("version", "paper", RUN)
    last = ("manifest",)
    middle = [key for key in content if key not in (*first, *last)]
    ordered = {key: content[key] for key in (*first, *middle, *last)}
    text = yaml.safe_dump(
        ordered, sort_keys=False, allow_unicode=True, width=100, explicit_start=True
    )
    write_text(path, text)


def cited_paper(citation: Path | str) -> dict[str, Any]:
    """The replicated paper as CODECHECK names it, from a CITATION.cff's preferred citation."""
    cited = yaml.safe_load(Path(citation).read_text(encoding="utf-8"))["preferred-citation"]
    authors = [f"{one['given-names']} {one['family-names']}" for one in cited["authors"]]
    return {
        "title": cited["title"],
        "authors": [{"name": name} for name in authors],
        "reference": cited["url"],
    }


def altered(root: Path | str, entries: Iterable[Entry]) -> list[str]:
    """One line for every file of the reference that is gone or has another checksum."""
    found = []
    for one in entries:
        path = Path(root) / one.file
        if not path.is_file():
            found.append(f"{one.file} is gone from the reference, though {FILE} lists it")
        elif checksum(path) != one.sha256:
            found.append(f"{one.file} is not the file that {FILE} lists: its sha256 differs")
    return found
