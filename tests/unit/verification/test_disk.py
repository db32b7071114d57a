"""Verification: every file that is not as it was written is named, and nothing else."""

from __future__ import annotations

import json
import os
import shutil

import pandas as pd
import pytest
import torch

from hvp_patching.cache import JetKey
from hvp_patching.environments import Environment
from hvp_patching.models.convert import prepare_model
from hvp_patching.store import Store
from hvp_patching.verification.disk import Verdict, verify
from hvp_patching.verification.manifest import FOLDER, fault, record, recorded

HERE = Environment("2.13.0", "5.23.0", "4.3.0", "cpu (a)", "highest", "eager", "float32")
TABLE = "results/truth/a.parquet"


def key(node: float) -> JetKey:
    fields = ("weights", (1, 2), (1, 3), (4,), "custom", "attn_heads", "float32", "noising")
    return JetKey(*fields, "logprob", (), None, node, 2, "auto")


@pytest.fixture
def place(tmp_path):
    """A working folder: two results, three store entries, one prepared model."""
    table = tmp_path / TABLE
    table.parent.mkdir(parents=True)
    pd.DataFrame({"f": [1.0, 2.0]}).to_parquet(table)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/table2.tex").write_text("1 & 2")
    record([TABLE, "tables/table2.tex"], "some_rule", tmp_path)
    store = Store(tmp_path / "results/store")
    for node in (0.0, 0.25, 0.5):
        store.put(key(node), {"values": torch.full((3, 2), node)}, HERE)
    prepare_model("tiny-gpt2", tmp_path / "data/models/tiny-gpt2", tmp_path / "downloads")
    return tmp_path


def wrong(place) -> list[Verdict]:
    return [one.verdict for one in verify(place) if one.verdict and one.verdict.wrong]


def entries(place):
    return [
        place / Store(place / "results/store").path(key(n)).relative_to(place) for n in (0.0, 0.5)
    ]


def test_what_was_left_alone_is_as_it_was(place):
    told = []
    found = verify(place, lambda done, total: told.append((done, total)))
    assert [one.verdict for one in found] == [None] * 6
    assert sorted(one.kind for one in found) == ["model"] + ["result"] * 2 + ["store entry"] * 3
    assert told == [(n, 6) for n in range(1, 7)]


def older(path, content):
    """Other bytes of the same number behind Snakemake's back: times are as before."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_result_that_was_replaced_with_its_times_kept(place):
    path = place / "tables/table2.tex"
    older(path, b"1 & 3")
    (found,) = wrong(place)
    assert found.path == "tables/table2.tex"
    assert found.says.startswith("changed since some_rule wrote it (its sha256 differs)")


def test_a_result_that_is_cut_short_longer_or_gone(place):
    path = place / TABLE
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    assert f"truncated: {len(content) - 7} bytes, {len(content)} when" in wrong(place)[0].says
    path.write_bytes(content + b"x")
    assert wrong(place)[0].says.startswith("changed: ")
    path.unlink()
    (found,) = wrong(place)
    assert (found.path, found.says[:8]) == (TABLE, "missing;")


def test_a_record_that_cannot_be_read(place):
    path = place / FOLDER / f"{TABLE}.json"
    path.write_text('{"path": "results/truth/a.parquet"')
    (found,) = wrong(place)
    assert (found.path, "cannot be read" in found.says) == (str(path), True)


def test_results_without_a_record_are_counted_and_their_ends_looked_at(place):
    shutil.rmtree(place / FOLDER)
    found = verify(place)
    kinds = [one.kind for one in found]
    assert (kinds.count("file without a record"), kinds.count("result")) == (2, 0)
    assert not wrong(place)
    (place / TABLE).write_bytes((place / TABLE).read_bytes()[:-3])
    assert wrong(place)[0].says.startswith("truncated: ")


def flipped(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0, 8, 20, 60, -1])
def test_one_flipped_bit_in_any_part_of_an_entry(place, at):
    first, _ = entries(place)
    flipped(first, at)
    (found,) = wrong(place)
    assert found.path == str(first)
    assert found.says.startswith("damaged: ")


def test_entries_that_are_swapped_truncated_or_empty(place):
    first, other = entries(place)
    mine, yours = first.read_bytes(), other.read_bytes()
    first.write_bytes(yours)
    other.write_bytes(mine)
    assert {v.path: v.says for v in wrong(place)} == dict.fromkeys(
        map(str, (first, other)),
        "damaged: it holds the numbers of another key; it will be computed again",
    )
    first.write_bytes(mine[:-5])
    other.write_bytes(b"")
    assert [v.says.split(";")[0] for v in wrong(place)].count("damaged: it is empty") == 1
    assert len(wrong(place)) == 2


def test_what_was_set_aside_is_a_note(place):
    first, _ = entries(place)
    first.rename(first.with_name(first.name + ".damaged"))
    (first.parent / ".part-x").write_bytes(b"half")
    assert not wrong(place)
    notes = [one.verdict.says for one in verify(place) if one.verdict]
    assert notes == ["set aside as damaged before; delete it"]


def test_weights_that_changed(place):
    model = place / "data/models/tiny-gpt2"
    weights = model / "model.safetensors"
    flipped(weights, -1)
    (found,) = wrong(place)
    assert found.path == str(weights)
    assert "changed since hvp_model.json was written" in found.says
    weights.write_bytes(weights.read_bytes()[:-4])
    assert wrong(place)[0].says.startswith("truncated: ")
    (model / "tokenizer.json").unlink()
    assert wrong(place)[0].path == str(model / "tokenizer.json")
    (model / "hvp_model.json").write_text("{")
    assert wrong(place)[0].path == str(model / "hvp_model.json")


def test_a_folder_with_nothing_to_verify(tmp_path):
    with pytest.raises(ValueError, match="nothing to verify in"):
        verify(tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        verify(tmp_path / "none")


def test_records_name_what_a_rule_wrote_alone(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "folder").mkdir()
    record(["a", "folder", "gone", tmp_path / "a"], "rule", tmp_path)
    ((place, entry),) = recorded(tmp_path)
    assert (entry.path, entry.size, entry.rule) == ("a", 1, "rule")
    assert json.loads(place.read_text())["sha256"] == entry.sha256
    assert fault(entry, tmp_path) == ""
