"""One look at everything in a working folder: each fault names its file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hvp_patching.models.content import (
    MANIFEST,
    content_files,
    file_stamps,
    folder_content,
    read_json,
)
from hvp_patching.models.errors import ModelError
from hvp_patching.store import DAMAGED, MARK, PART, Damage, OtherFormat, decode
from hvp_patching.store import DIGEST_BYTES as DIGEST
from hvp_patching.verification.manifest import FOLDER, Recorded, fault, recorded

STORE = Path("results") / "store"
MODELS = Path("data") / "models"
MADE = ("results", "tables", "figures")  # where results lie
PARQUET = b"PAR1"  # first and last bytes of a parquet file
UNRECORDED = "file without a record"  # benchmarks, and what was made before there were any
AGAIN = "delete it and run Snakemake again"


@dataclass(frozen=True)
class Verdict:
    """What was found of one file: `wrong` where it is not as it was written, else a note."""

    path: str
    says: str
    wrong: bool = True


@dataclass(frozen=True)
class Looked:
    """A file (or a folder of weights) that was looked at, of one kind, and its verdict if any."""

    kind: str
    verdict: Verdict | None = None


def verify(
    root: str | Path = ".", progress: Callable[[int, int], Any] = lambda done, all_: None
) -> list[Looked]:
    """Look at every result with a record, every store entry and every prepared model of `root`.

    Models also lie in $HVP_PATCHING_MODELS. Nothing is changed. progress: called with files looked
    at and files in all. ValueError where `root` holds none of these.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"no folder {root}; give one that holds results/ or data/models/")
    looks = [*_results(root), *_entries(root / STORE), *_models(root)]
    if not looks:
        raise ValueError(
            f"nothing to verify in {root.resolve()}: give a folder that holds results/ or "
            "data/models/"
        )
    found = []
    for number, look in enumerate(looks, 1):
        found.append(look())
        progress(number, len(looks))
    return found


Look = Callable[[], Looked]


# --- results --------------------------------------------------------------------------------------


def _results(root: Path) -> Iterator[Look]:
    known = set()
    for place, entry in recorded(root):
        known.add(entry.path if entry else "")
        yield partial(_result, root, place, entry)
    for folder in MADE:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root)
            if name.as_posix() not in known and path.is_file() and not _kept_apart(name):
                yield partial(_unrecorded, path, name)


def _result(root: Path, place: Path, entry: Recorded | None) -> Looked:
    if entry is None:
        return Looked("result", _wrong(str(place), "this record cannot be read", AGAIN))
    advice = f"make it again, or delete {place}"
    return Looked("result", _wrong(entry.path, fault(entry, root), advice))


def _kept_apart(name: Path) -> bool:
    return name.is_relative_to(STORE) or name.is_relative_to(FOLDER)


def _unrecorded(path: Path, name: Path) -> Looked:
    """A file that no record names: only a parquet file's own ends can be checked."""
    if path.suffix == ".parquet":
        with path.open("rb") as stream:
            head = stream.read(len(PARQUET))
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - len(PARQUET)))
            tail = stream.read()
        if head != PARQUET or tail != PARQUET or size < 3 * len(PARQUET):
            says = f"truncated: {size} bytes that are no parquet file"
            return Looked(UNRECORDED, _wrong(str(name), says, AGAIN))
    return Looked(UNRECORDED)


def _wrong(path: str, says: str, advice: str) -> Verdict | None:
    return Verdict(path, f"{says}; {advice}") if says else None


# --- the store ------------------------------------------------------------------------------------


class NamedKey:
    """The key that an entry's file name gives, whose fields are those that the entry states."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def digest(self) -> str:
        """The two parts of the name."""
        return self.path.parent.name + self.path.name

    def fields(self) -> Mapping[str, Any]:
        """The fields in the entry's header; ValueError or KeyError where it has none."""
        content = self.path.read_bytes()[len(MARK) + DIGEST :]
        length = int.from_bytes(content[:8], "little")
        fields: dict[str, Any] = json.loads(
            json.loads(content[8 : 8 + length])["__metadata__"]["fields"]
        )
        return fields


def _entries(store: Path) -> Iterator[Look]:
    for path in sorted(store.glob("*/*")):
        if path.is_file() and not path.name.startswith(PART):
            yield partial(_entry, path)


def _entry(path: Path) -> Looked:
    return Looked("store entry", _entry_verdict(path))


def _entry_verdict(path: Path) -> Verdict | None:
    if path.name.endswith(DAMAGED):
        return Verdict(str(path), "set aside as damaged before; delete it", wrong=False)
    try:
        decode(path.read_bytes(), NamedKey(path))
    except OtherFormat:
        return Verdict(str(path), "of another format; it will be computed again", wrong=False)
    except Damage as damage:
        return Verdict(str(path), f"damaged: {damage}; it will be computed again")
    except FileNotFoundError:
        return None  # another process set it aside meanwhile
    except OSError as error:
        return Verdict(str(path), f"cannot be read ({error.strerror or error})")
    return None


# --- weights --------------------------------------------------------------------------------------


def _models(root: Path) -> Iterator[Look]:
    elsewhere = os.environ.get("HVP_PATCHING_MODELS")
    folders = dict.fromkeys([root / MODELS, *([Path(elsewhere)] if elsewhere else [])])
    for folder in folders:
        for place in sorted(folder.glob(f"*/{MANIFEST}")):
            yield partial(_model, place)


def _model(place: Path) -> Looked:
    return Looked("model", _model_verdict(place))


def _model_verdict(place: Path) -> Verdict | None:
    """The weights' content against the manifest; it holds one sha256 for all of the files."""
    again = f"delete {place.parent} and run again"
    try:
        manifest = read_json(place)
        weights = Path(manifest.get("path") or place.parent)
        before = manifest.get("files") or {}
        absent = [name for name in before if not (weights / name).is_file()]
        if absent:
            return _wrong(str(weights / absent[0]), "missing", again)
        for name, stamp in before.items():
            size = (weights / name).stat().st_size
            if size != stamp[0]:
                how = "truncated" if size < stamp[0] else "changed"
                says = f"{how}: {size} bytes instead of {stamp[0]}"
                return _wrong(str(weights / name), says, again)
        if manifest.get("content") == folder_content(weights):
            return None
        return _wrong(*_suspects(weights, before), again)
    except (ModelError, OSError, TypeError, IndexError) as error:
        return _wrong(str(place), " ".join(str(error).split()), again)


def _suspects(weights: Path, before: Mapping[str, Any]) -> tuple[str, str]:
    """The files that were touched since, which is where the content can differ."""
    now = file_stamps(weights)
    touched = [name for name in now if list(before.get(name, ())) != now[name]]
    added = [path.name for path in content_files(weights) if path.name not in before]
    named = sorted({*touched, *added}) or sorted(now)
    more = f" (or {', '.join(named[1:])})" if len(named) > 1 else ""
    return str(weights / named[0]), f"changed since {MANIFEST} was written{more}"
