"""Environments: what they hold, how they travel with results, how an artefact names them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from hvp_patching.environments import (
    Environment,
    describe,
    described,
    environments_of,
    file_environments,
    join_descriptions,
    with_environments,
)
from hvp_patching.models.environment import current_environment

HERE = Environment("2.13.0", "5.23.1", "4.3.0", "cpu (AMD EPYC; 2)", "highest", "eager", "float32")
THERE = replace(HERE, device="cuda (NVIDIA H100)", matmul="high")
WORDS = "torch 2.13.0, transformers 5.23.1, transformer_lens 4.3.0 on "


def test_the_current_environment(tiny):
    found = current_environment(tiny("tiny-llama", "float64"))
    assert found.torch == torch.__version__
    assert found.device.startswith("cpu (")
    assert (found.attention, found.dtype, found.matmul) == ("eager", "float64", "highest")
    assert "unknown" not in found.text()


def test_tf32_is_another_environment(tiny):
    before = current_environment(tiny("tiny-llama"))
    torch.set_float32_matmul_precision("high")
    try:
        assert current_environment(tiny("tiny-llama")) == replace(before, matmul="high")
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("environments", "line"),
    [
        ([], ""),
        (
            [HERE, HERE],
            f"computed with {WORDS}cpu (AMD EPYC, 2), TF32 off, eager attention, float32",
        ),
        (
            [HERE, replace(HERE, dtype="float64")],
            f"computed with {WORDS}cpu (AMD EPYC, 2), TF32 off, eager attention, "
            "float32 and float64",
        ),
        (
            [THERE, HERE],
            f"computed with 2 environments: {WORDS}cpu (AMD EPYC, 2), TF32 off, eager attention, "
            f"float32; {WORDS}cuda (NVIDIA H100), TF32 on (matmul high), eager attention, float32",
        ),
    ],
    ids=["none", "one", "two dtypes", "a mixture"],
)
def test_descriptions(environments, line):
    assert describe(environments) == line
    assert join_descriptions([line, line]) == line
    assert len(described(line)) == len({replace(e, dtype="") for e in environments})


def test_descriptions_of_several_artefacts_make_one():
    one, other = describe([HERE]), describe([THERE])
    assert join_descriptions([one, "", other, one]) == describe([HERE, THERE])
    assert described("commit: 0123abc") == []


def test_environments_travel_in_a_parquet_file(tmp_path):
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["task"] = "ioi"
    for name, places in (("one", [HERE]), ("both", [HERE, THERE]), ("none", [])):
        with_environments(frame, places).to_parquet(tmp_path / f"{name}.parquet")
    frame.to_parquet(tmp_path / "silent.parquet")
    read = pd.read_parquet(tmp_path / "both.parquet")
    assert environments_of(read) == {HERE, THERE}
    assert read.attrs["task"] == "ioi"
    (tmp_path / "notes.csv").write_text("a")
    names = ("one.parquet", "none.parquet", "silent.parquet", "notes.csv")
    assert file_environments([tmp_path / name for name in names]) == {HERE}
    assert "environments" not in frame.attrs


def test_a_record_that_lacks_something_is_unknown_there():
    assert Environment.from_fields({"torch": "2.13.0", "threads": 2}).device == "unknown"
