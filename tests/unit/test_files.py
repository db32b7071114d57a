import ast
import errno
import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest

from hvp_patching.files import WriteError, drop_damaged_blob, write_table, write_text


def test_writes_utf8_and_makes_folders(tmp_path):
    path = tmp_path / "tables" / "a.csv"
    write_text(path, "δ\n")
    assert path.read_bytes() == "δ\n".encode()
    assert os.listdir(path.parent) == ["a.csv"]


def test_a_new_file_is_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_text(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_full_disk_keeps_the_old_file_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "table2.tex"
    write_text(path, "old")

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match=r"could not write .*table2\.tex: No space left") as caught:
        write_text(path, "new")
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table2.tex"]


def test_tables_are_written_whole(tmp_path, monkeypatch):
    frame = pd.DataFrame({"a": [1, 2]})
    write_table(tmp_path / "new" / "a.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new" / "a.parquet"), frame)

    def broken(self, path):
        path.write_bytes(b"half")
        raise RuntimeError("in the middle")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", broken)
    with pytest.raises(RuntimeError):
        write_table(tmp_path / "new" / "a.parquet", frame)
    assert os.listdir(tmp_path / "new") == ["a.parquet"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new" / "a.parquet"), frame)


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "tables").write_text("")
    with pytest.raises(WriteError, match=r"could not write .*a\.csv"):
        write_text(tmp_path / "tables" / "a.csv", "x")


ROOT = Path(__file__).parents[2]
WRITERS = ("src/hvp_patching/files.py", "src/hvp_patching/store.py")


def renames(source: str) -> list[int]:
    """Lines that put a file in another's place: os.replace(a, b) and path.replace(b)."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    attributes = [node for node in calls if isinstance(node.func, ast.Attribute)]
    return [
        node.lineno
        for node in attributes
        if node.func.attr == "replace"
        and (len(node.args) == 1 or ast.unparse(node.func) == "os.replace")
        and not node.keywords
    ]


def test_there_is_one_atomic_writer_and_the_stores():
    paths = [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]
    found = [
        str(path.relative_to(ROOT)) for path in paths if renames(path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(WRITERS)
    assert renames("partial.replace(path)\nos.replace(a, b)\n'a'.replace('b', 'c')") == [1, 2]


def _cached(folder: Path, content: bytes, name: str) -> Path:
    """A file as the Hub's client keeps it: a blob named after its hash, and a link to it."""
    blob = folder / "models--a--b" / "blobs" / name
    link = folder / "models--a--b" / "snapshots" / ("c" * 40) / "file.bin"
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    return link


def _names(content: bytes) -> list[str]:
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return [hashlib.sha256(content).hexdigest(), git]


@pytest.mark.parametrize("kind", [0, 1], ids=["sha256", "git"])
def test_a_file_of_the_hubs_cache_is_what_its_blob_is_named_after(kind, tmp_path):
    content = bytes(range(256)) * 5000
    link = _cached(tmp_path, content, _names(content)[kind])
    assert drop_damaged_blob(link) == ""
    assert link.read_bytes() == content
    damaged = _cached(tmp_path / "other", content[:-1] + b"x", _names(content)[kind])
    fault = drop_damaged_blob(damaged)
    assert f"instead of {_names(content)[kind]} and was removed; run again" in fault
    assert not damaged.is_symlink()
    assert not list((tmp_path / "other").rglob("blobs/*"))


def test_other_files_have_no_such_name(tmp_path):
    plain = tmp_path / "config.json"
    plain.write_text("{}")
    assert drop_damaged_blob(plain) == ""
    assert drop_damaged_blob(_cached(tmp_path, b"x", "no-hash")) == ""
    assert drop_damaged_blob(tmp_path) == ""
