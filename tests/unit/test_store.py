"""The store: what it finds, what it refuses to believe, and what it survives."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from hvp_patching import store as store_module
from hvp_patching.environments import Environment
from hvp_patching.store import DIGEST_BYTES, MAGIC, MARK, Store, StoreError, is_orphan, part_prefix

HERE = Environment("2.13.0", "5.23.0", "4.3.0", "cpu (a)", "highest", "eager", "float32")
THERE = replace(HERE, torch="2.14.0")


@dataclass(frozen=True)
class Name:
    """The smallest key there is."""

    name: str
    ids: tuple[int, ...] = (1, 2)

    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def fields(self) -> Mapping[str, Any]:
        return {"name": self.name, "ids": self.ids}


KEY, OTHER = Name("a"), Name("b")


def entry(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        "values": torch.randn(4, 3, generator=draw, dtype=torch.float64),
        "components": torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]),
    }


def same(a, b):
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def files(store):
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_hit_and_miss(store):
    assert store.get(KEY) is None
    store.put(KEY, entry(), HERE)
    assert same(store.get(KEY), entry())
    assert store.get(OTHER) is None
    assert files(store) == [store.path(KEY)]


def test_slices_are_stored_as_they_look(store):
    values = entry()["values"]
    store.put(KEY, {"values": values[:, :2], "components": values[::2].T}, HERE)
    assert same(store.get(KEY), {"values": values[:, :2], "components": values[::2].T})


def test_a_second_write_replaces_the_first(store):
    store.put(KEY, entry(1), HERE)
    store.put(KEY, entry(2), HERE)
    assert same(store.get(KEY), entry(2))


def damaged(store, caplog, reason="checksum differs", key=KEY):
    """The entry is reported, set aside as it was, and absent."""
    path, content = store.path(key), store.path(key).read_bytes()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert store.get(key) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"store entry {path} is damaged ({reason}); computing it again"
    ]
    assert not path.exists()
    assert path.with_name(f"{path.name}.damaged").read_bytes() == content
    assert "damaged, renamed .damaged and computed again (first: " in store.report()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
@example(position=0, flip=1)  # the mark
@example(position=len(MAGIC), flip=3)  # the format's version: 1 from 2
@example(position=len(MARK), flip=1)  # the checksum
def test_a_flipped_byte_anywhere_is_noticed(store, caplog, position, flip):
    store.put(KEY, entry(), HERE)
    content = bytearray(store.path(KEY).read_bytes())
    content[position % len(content)] ^= flip
    store.path(KEY).write_bytes(content)
    damaged(store, caplog)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000))
def test_a_truncated_file_is_noticed(store, caplog, length):
    store.put(KEY, entry(), HERE)
    content = store.path(KEY).read_bytes()
    kept = content[: length % len(content)]
    store.path(KEY).write_bytes(kept)
    damaged(store, caplog, "checksum differs" if kept else "it is empty")


def test_an_appended_byte_is_noticed(store, caplog):
    store.put(KEY, entry(), HERE)
    with store.path(KEY).open("ab") as file:
        file.write(b"\0")
    damaged(store, caplog)


@pytest.mark.parametrize("step", ["replace", "write", "kill"])
def test_a_failing_write_leaves_nothing(store, monkeypatch, step):
    store.put(KEY, entry(1), HERE)
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_, **__):
        raise KeyboardInterrupt if step == "kill" else full

    if step == "write":
        real = os.fdopen

        monkeypatch.setattr(os, "fdopen", lambda *args: Failing(real(*args), fail))
    else:
        monkeypatch.setattr(os, "replace", fail)
    other = OTHER
    for key in (KEY, other):
        with pytest.raises(KeyboardInterrupt if step == "kill" else OSError) as caught:
            store.put(key, entry(2), HERE)
        if step != "kill":
            assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert files(store) == [store.path(KEY)]
    assert same(store.get(KEY), entry(1))
    assert store.get(other) is None


class Failing:
    """A file whose writes fail."""

    def __init__(self, file, fail):
        self.file, self.write = file, fail

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def test_writers_of_one_key_never_show_a_damaged_entry(store, caplog):
    """Several write the same key over and over while others read it."""
    store.put(KEY, entry(0), HERE)
    known, wrong, done = [entry(seed) for seed in range(4)], [], threading.Event()

    def write(seed):
        for _ in range(40):
            store.put(KEY, known[seed], HERE)

    def read():
        while not done.is_set():
            found = store.get(KEY)
            if found is None or not any(same(found, e) for e in known):
                wrong.append(found)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not wrong
    assert not caplog.records
    assert files(store) == [store.path(KEY)]


def test_two_processes_may_write_one_key(store):
    children = []
    for seed in (1, 2):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(50):
                    store.put(KEY, entry(seed), HERE)
            finally:
                os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert any(same(store.get(KEY), entry(seed)) for seed in (1, 2))
    assert files(store) == [store.path(KEY)]


def test_two_entries_swapped_on_disk_are_both_noticed(store, caplog):
    store.put(KEY, entry(1), HERE)
    store.put(OTHER, entry(2), HERE)
    mine, others = (store.path(key).read_bytes() for key in (KEY, OTHER))
    store.path(KEY).write_bytes(others)
    store.path(OTHER).write_bytes(mine)
    for key in (KEY, OTHER):
        damaged(store, caplog, "it holds the numbers of another key", key)
    assert store.report().startswith(f"{store.root}: 2 entries damaged, ")
    store.put(KEY, entry(1), HERE)
    assert same(store.get(KEY), entry(1))


def test_an_entry_whose_fields_are_not_the_keys_is_noticed(store, caplog):
    """The digest's function could change; the fields, which a person can read, must fit too."""
    store.put(KEY, entry(), HERE)
    caplog.clear()
    assert store.get(Name("a", ids=(1, 3))) is None
    assert "it holds the numbers of another key" in caplog.text


def test_a_person_can_read_what_an_entry_is(store):
    store.put(KEY, entry(), HERE)
    payload = store.path(KEY).read_bytes()[len(MARK) + DIGEST_BYTES :]
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    metadata = header["__metadata__"]
    assert metadata["key"] == KEY.digest()
    assert json.loads(metadata["fields"]) == {"name": "a", "ids": [1, 2]}
    assert json.loads(metadata["environment"])["torch"] == "2.13.0"


def test_the_second_damaged_entry_takes_the_place_of_the_first(store, caplog):
    for content in (b"first", b"second"):
        store.put(KEY, entry(), HERE)
        store.path(KEY).write_bytes(content)
        damaged(store, caplog)
    assert len(files(store)) == 1


def test_a_safetensors_file_that_is_no_entry_is_noticed(store, caplog):
    store.put(KEY, entry(), HERE)
    payload = save(entry())
    store.path(KEY).write_bytes(MARK + hashlib.sha256(MARK + payload).digest() + payload)
    assert store.get(KEY) is None
    assert "is damaged (it is no entry ('__metadata__')" in caplog.text


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff" * 8,
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (21).to_bytes(8, "little") + b'{"__metadata__": [1]}',
        (20).to_bytes(8, "little") + b'{"__metadata__": {}}',
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
    ],
)
def test_an_entry_made_to_pass_the_checksum_is_noticed(store, caplog, payload):
    """Whoever writes the mark and a right checksum writes no entry by that alone."""
    store.put(KEY, entry(), HERE)
    store.path(KEY).write_bytes(MARK + hashlib.sha256(MARK + payload).digest() + payload)
    assert store.get(KEY) is None
    assert "is damaged (it is no entry (" in caplog.text


def test_tensors_that_are_none_behind_the_right_key_are_noticed(store, caplog):
    store.put(KEY, entry(), HERE)
    payload = store.path(KEY).read_bytes()[len(MARK) + DIGEST_BYTES :]
    length = 8 + int.from_bytes(payload[:8], "little")
    payload = payload[:length] + payload[length : len(payload) - 3]
    store.path(KEY).write_bytes(MARK + hashlib.sha256(MARK + payload).digest() + payload)
    assert store.get(KEY) is None
    assert "is damaged (it is no entry (" in caplog.text


@pytest.mark.parametrize("version", [1, 3])
def test_an_entry_of_another_format_is_computed_again_and_never_misread(store, caplog, version):
    path = store.path(KEY)
    path.parent.mkdir(parents=True)
    payload = save(entry(7))
    mark = b"" if version == 1 else MAGIC + version.to_bytes(4, "little")
    path.write_bytes(mark + hashlib.sha256(mark + payload).digest() + payload)
    assert store.get(KEY) is None
    assert not caplog.records
    assert (
        store.report() == f"{store.root}: 1 entry of another format computed again (first: {path})"
    )
    store.put(KEY, entry(), HERE)
    assert same(store.get(KEY), entry())
    assert files(store) == [path]


def test_an_entry_that_cannot_be_read_is_set_aside(store, caplog, monkeypatch):
    store.put(KEY, entry(), HERE)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(store_module.Path, "read_bytes", refuse)
    assert store.get(KEY) is None
    monkeypatch.undo()
    assert "is damaged (Permission denied)" in caplog.text
    assert [path.suffix for path in files(store)] == [".damaged"]


def test_a_folder_in_the_place_of_an_entry_is_set_aside(store):
    store.path(KEY).mkdir(parents=True)
    assert store.get(KEY) is None
    store.put(KEY, entry(), HERE)
    assert same(store.get(KEY), entry())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_never_stored(store, value):
    bad = entry()
    bad["values"][2, 1] = value
    store.put(KEY, bad, HERE)
    assert not store.root.exists()
    assert "1 entry not stored, since they are not finite" in store.report()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_store_that_may_not_be_written_serves_what_it_has(store, monkeypatch, code):
    store.put(KEY, entry(), HERE)

    def refuse(**_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(store_module.tempfile, "mkstemp", refuse)
    for _ in range(2):
        store.put(OTHER, entry(), HERE)
    assert same(store.get(KEY), entry())
    assert store.report() == (
        f"{store.root}: 2 entries not stored: the store cannot be written ({os.strerror(code)})"
    )


def test_a_damaged_entry_of_a_read_only_store_is_still_not_served(store, monkeypatch, caplog):
    store.put(KEY, entry(), HERE)
    store.path(KEY).write_bytes(b"nonsense")

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    assert store.get(KEY) is None
    assert "checksum differs" in caplog.text
    assert ": 1 entry damaged and computed again (first: " in store.report()


def test_a_store_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "store").write_text("not a folder")
    broken = Store(tmp_path / "store")
    assert broken.get(KEY) is None
    with pytest.raises(
        StoreError, match=r"the store .* cannot be used: .* is no folder; remove it"
    ):
        broken.put(KEY, entry(), HERE)


def test_nothing_to_report(store):
    store.get(KEY)
    store.put(KEY, entry(), HERE)
    assert store.report() == ""


def test_the_store_knows_the_environments_of_what_it_gave(store):
    store.put(KEY, entry(), HERE)
    store.put(OTHER, entry(), THERE)
    later = Store(store.root)
    assert later.environments == set()
    later.get(KEY)
    assert later.environments == {HERE}
    later.get(OTHER)
    assert later.environments == {HERE, THERE}


# --- unfinished files -----------------------------------------------------------------------


def part(store, prefix, age):
    folder = store.root / "00"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}x1y2"
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def dead_prefix():
    """What a process that is no more wrote."""
    code = "from hvp_patching.store import part_prefix; print(part_prefix())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    ).stdout.strip()


def test_files_of_dead_writers_are_cleared_by_the_first_write(store):
    dead = dead_prefix()
    pid = f"-{os.getpid()}-"
    another_start = part_prefix().replace(pid, f"{pid}9")
    gone = [
        part(store, dead, 100),
        part(store, another_start, 100),  # the number of a living process, which began later
        part(store, ".part-", 100_000),  # without a writer's name, as they were
        part(store, ".part-otherhost-1-1-", 100_000),
    ]
    kept = [
        part(store, part_prefix(), 1_000_000),  # a living writer, however slow
        part(store, ".part-otherhost-2-1-", 3_600),  # a writer that cannot be seen from here
    ]
    Store(store.root).get(KEY)
    assert all(path.exists() for path in [*gone, *kept])
    store.put(KEY, entry(), HERE)
    assert not [path for path in gone if path.exists()]
    assert all(path.exists() for path in kept)


def test_a_dead_writers_file_is_kept_for_a_minute(store):
    assert not is_orphan(part(store, dead_prefix(), 5))
