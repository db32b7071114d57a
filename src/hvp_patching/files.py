"""Files: written whole or not at all, and where the checkout's data lie."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

DATA = Path(__file__).resolve().parents[2] / "data"


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


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
