"""What a rule wrote, as it was then: one small file per result, with its size and sha256.

Snakemake trusts times of change alone. A result that is replaced, cut short or taken away later is
found by comparing it with its record here (`hvp-patching verify`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hvp_patching.files import write_text
from hvp_patching.models.content import sha256_file

FOLDER = Path("results") / "manifest"


@dataclass(frozen=True)
class Recorded:
    """A file as a rule left it: its path in the working folder, bytes, sha256 and that rule."""

    path: str
    size: int
    sha256: str
    rule: str


def record(paths: Iterable[str | Path], rule: str, root: str | Path = ".") -> None:
    """Write the record of each file; absolute paths, folders and missing files have none.

    WriteError as `files.write_text`.
    """
    root = Path(root)
    for path in map(Path, paths):
        file = root / path
        if path.is_absolute() or not file.is_file():
            continue
        entry = Recorded(path.as_posix(), file.stat().st_size, sha256_file(file), rule)
        write_text(_place(root, path), json.dumps(asdict(entry)) + "\n")


def recorded(root: str | Path = ".") -> Iterator[tuple[Path, Recorded | None]]:
    """Every record below `root` with its own file; None for one that cannot be read."""
    for place in sorted((Path(root) / FOLDER).rglob("*.json")):
        try:
            fields = json.loads(place.read_text(encoding="utf-8"))
            yield place, Recorded(**{name: fields[name] for name in Recorded.__annotations__})
        except (OSError, ValueError, KeyError, TypeError):
            yield place, None


def fault(entry: Recorded, root: str | Path = ".") -> str:
    """What is wrong with the file of a record, "" where it is as the rule left it."""
    path = Path(root) / entry.path
    try:
        size = path.stat().st_size
        if size != entry.size:
            how = "truncated" if size < entry.size else "changed"
            return f"{how}: {size} bytes, {entry.size} when {entry.rule} wrote it"
        if sha256_file(path) != entry.sha256:
            return f"changed since {entry.rule} wrote it (its sha256 differs)"
    except FileNotFoundError:
        return f"missing; {entry.rule} wrote it"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return ""


def _place(root: Path, path: Path) -> Path:
    return root / FOLDER / f"{path.as_posix()}.json"
