"""A content-addressed store of named tensors: one file per key, which it never serves for another.

A file is a mark with the format's version, the sha256 of mark and payload, and a safetensors
payload whose metadata hold the key's digest, its fields and the environment of the numbers. So a
truncated, altered, swapped or older entry is noticed, and computed again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from hvp_patching.environments import Environment
from hvp_patching.failures import one_line

log = logging.getLogger(__name__)

Entry = dict[str, torch.Tensor]
MAGIC = b"HVPSTORE"
FORMAT = 2  # 1, which had no mark, was the sha256 of the payload and the payload
MARK = MAGIC + FORMAT.to_bytes(4, "little")
DIGEST_BYTES = 32
DAMAGED = ".damaged"
PART = ".part-"
# A write takes milliseconds. A dead writer's file is cleared after a minute (a writer in another
# process namespace of this host looks dead), one whose writer cannot be seen after a day.
DEAD_SECONDS, UNSEEN_SECONDS = 60, 86_400
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


class StoreError(ValueError):
    """A store that cannot be used."""


class Key(Protocol):
    """What an entry depends on: a digest, which is its name, and the fields that make it up."""

    def digest(self) -> str: ...

    def fields(self) -> Mapping[str, Any]: ...


class Damage(Exception):
    """An entry that cannot be believed, and why."""


class OtherFormat(Exception):
    """An intact entry of another format."""


def encode(key: Key, entry: Entry, environment: Environment) -> bytes:
    """The content of an entry's file."""
    metadata = {
        "key": key.digest(),
        "fields": json.dumps(dict(key.fields()), sort_keys=True),
        "environment": json.dumps(asdict(environment), sort_keys=True),
    }
    payload = save({name: tensor.contiguous() for name, tensor in entry.items()}, metadata)
    return MARK + hashlib.sha256(MARK + payload).digest() + payload


def decode(content: bytes, key: Key) -> tuple[Entry, Environment]:
    """The inverse of encode; Damage or OtherFormat where the content is no entry of ``key``."""
    if not content:
        raise Damage("it is empty")
    _check_content(content)
    payload = content[len(MARK) + DIGEST_BYTES :]
    try:
        length = int.from_bytes(payload[:8], "little")
        metadata = json.loads(payload[8 : 8 + length])["__metadata__"]
        if metadata["key"] != key.digest() or json.loads(metadata["fields"]) != _plain(key):
            raise Damage("it holds the numbers of another key")
        return load(payload), Environment.from_fields(json.loads(metadata["environment"]))
    except (*UNREADABLE, SafetensorError) as error:
        raise Damage(f"it is no entry ({one_line(error)})") from error


def _check_content(content: bytes) -> None:
    """The mark and the checksum."""
    mark, digest = content[: len(MARK)], content[len(MARK) : len(MARK) + DIGEST_BYTES]
    if hashlib.sha256(mark + content[len(MARK) + DIGEST_BYTES :]).digest() == digest:
        if mark == MARK:
            return
        if mark.startswith(MAGIC):
            raise OtherFormat
    if hashlib.sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]:
        raise OtherFormat  # format 1
    raise Damage("checksum differs")


def _plain(key: Key) -> Any:
    """The key's fields as JSON gives them back."""
    return json.loads(json.dumps(dict(key.fields())))


class Store:
    """Entries below ``root``, one file per key: named tensors of one prompt.

    environments: those of all entries served or written; notices: how often something was noticed
    that ``report`` tells.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.environments: set[Environment] = set()
        self.notices: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._cleared = False

    def path(self, key: Key) -> Path:
        """Where the entry of ``key`` lies, whether or not it is there."""
        digest = key.digest()
        return self.root / digest[:2] / digest[2:]

    def get(self, key: Key) -> Entry | None:
        """The stored tensors, or None where there are none to be believed.

        A damaged entry is reported and renamed (``.damaged``), one of another format left to be
        overwritten.
        """
        path = self.path(key)
        try:
            entry, environment = decode(path.read_bytes(), key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OtherFormat:
            self._notice("of another format computed again", f"first: {path}")
            return None
        except (Damage, OSError) as fault:
            reason = fault.strerror if isinstance(fault, OSError) else fault
            self._set_aside(path, str(reason or fault))
            return None
        self.environments.add(environment)
        return entry

    def put(self, key: Key, entry: Entry, environment: Environment) -> None:
        """Write the entry atomically: a failed write leaves nothing, a killed one no entry.

        Numbers that are not finite are not stored, and a store that may not be written is left as
        it is: ``report`` says so. OSError on a full disk; StoreError where ``root`` is no folder.
        """
        self.environments.add(environment)
        if not all(bool(t.isfinite().all()) for t in entry.values() if t.is_floating_point()):
            self._notice("not stored, since they are not finite", f"first: {self.path(key)}")
            return
        try:
            self._write(self.path(key), encode(key, entry, environment))
        except (NotADirectoryError, FileExistsError) as error:
            raise StoreError(
                f"the store {self.root} cannot be used: {error.filename} is no folder; remove it"
            ) from error
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            self._notice("not stored: the store cannot be written", error.strerror or str(error))

    def report(self) -> str:
        """One line on everything that was noticed since the store was opened, "" for nothing."""
        parts = [
            f"{count} {'entry' if count == 1 else 'entries'} {what} ({self._first[what]})"
            for what, count in self.notices.items()
        ]
        return f"{self.root}: {', '.join(parts)}" if parts else ""

    def _notice(self, what: str, particulars: str) -> None:
        self.notices[what] += 1
        self._first.setdefault(what, particulars)

    def _set_aside(self, path: Path, reason: str) -> None:
        log.warning("store entry %s is damaged (%s); computing it again", path, reason)
        what = "damaged"
        with suppress(OSError):  # another reader was faster, or the store may not be written
            os.replace(path, path.with_name(path.name + DAMAGED))
            what = f"damaged, renamed {DAMAGED}"
        self._notice(f"{what} and computed again", f"first: {path}, {reason}")

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._clear_parts()
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=part_prefix())
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _clear_parts(self) -> None:
        """Remove what dead writers left, once per store and process."""
        if self._cleared:
            return
        self._cleared = True
        for part in self.root.glob(f"*/{PART}*"):
            with suppress(OSError):
                if is_orphan(part):
                    part.unlink()


def part_prefix() -> str:
    """Beginning of this process's unfinished files: host, process and when that began."""
    return f"{PART}{_host()}-{os.getpid()}-{_began(os.getpid())}-"


def is_orphan(part: Path) -> bool:
    """Whether an unfinished file's writer is dead, or cannot be seen from here and the file old."""
    age = time.time() - part.stat().st_mtime
    match = re.fullmatch(r"([^-]+)-(\d+)-(\d+)-[^-]+", part.name.removeprefix(PART))
    if match is None or match[1] != _host():
        return age > UNSEEN_SECONDS
    return age > DEAD_SECONDS and not _is_running(int(match[2]), match[3])


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]


def _is_running(pid: int, began: str) -> bool:
    """Whether the process is there and no other one that got its number later."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _began(pid) == began


def _began(pid: int) -> str:
    """When a process began, in clock ticks since boot; "0" where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"
