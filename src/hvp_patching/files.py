"""Files: written whole or not at all, and where the checkout's data lie."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

DATA = Path(__file__).resolve().parents[2] / "data"
DEEPEST = 40  # lists and mappings of a YAML file within each other


class WriteError(ValueError):
    """A file that cannot be written."""


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; it takes the place of ``path`` at the end.

    No reader sees half of it, and an older file stays as it was if writing fails. Missing folders
    are made. Raises ``WriteError`` naming the file and the cause (a full disk, a folder that may
    not be written).
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        yield Path(temporary)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are private
        os.replace(temporary, path)
    except OSError as error:
        raise WriteError(
            f"could not write {path}: {error.strerror or error}; free space or check the folder"
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write whole or not at all, as ``whole`` does."""
    with whole(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text whole or not at all, as ``whole`` does."""
    write_bytes(path, text.encode())


def write_table(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a parquet file whole or not at all, as ``whole`` does."""
    with whole(path) as partial:
        frame.to_parquet(partial)


def too_deep(text: str, loader: Any = None) -> int:
    """The line in which a YAML text nests more than DEEPEST lists and mappings, 0 if none does.

    Asked before a text is loaded: libyaml's loader, of a text that nests ever deeper, ends the
    process. By events, which need no memory of what lies around them; YAMLError as in loading.
    """
    import yaml

    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=loader or _safe_loader()):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return int(event.start_mark.line) + 1
    return 0


def read_yaml(path: Path | str) -> Any:
    """The content of a YAML file by the safe loader.

    Raises whatever a date, a number or a text that is no YAML makes it raise, and ``ValueError``
    for one that nests too deep.
    """
    import yaml

    text = Path(path).read_text(encoding="utf-8")
    line = too_deep(text)
    if line:
        raise ValueError(f"line {line} nests more than {DEEPEST} lists and mappings")
    return yaml.load(text, Loader=_safe_loader())


def _safe_loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it is there


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def drop_damaged_blob(path: Path) -> str:
    """How a file of the Hub's cache differs from what its blob is named after: its hash.

    "" where it does not, or has no such name; else it is removed, so that it is fetched again.
    The Hub names large files by their sha256, small ones by git's sha1, both as they are at the
    revision asked for; its client compares sizes alone.
    """
    blob = path.resolve()
    if blob.parent.name != "blobs" or not blob.is_file():
        return ""
    kind = {64: "sha256", 40: "sha1"}.get(len(blob.name), "")
    if not kind or not re.fullmatch("[0-9a-f]+", blob.name):
        return ""
    digest = hashlib.new(kind, usedforsecurity=False)
    if kind == "sha1":  # of git's blob, not of the bytes alone
        digest.update(b"blob %d\0" % blob.stat().st_size)
    with blob.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    found = digest.hexdigest()
    if found == blob.name:
        return ""
    for damaged in (path, blob):
        damaged.unlink(missing_ok=True)
    return f"{path.name} had {kind} {found} instead of {blob.name} and was removed; run again"
