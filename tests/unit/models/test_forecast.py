"""Headers and memory forecasts: counted without reading a weight, refused with need and have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hvp_patching.models import forecast as module
from hvp_patching.models.errors import ModelError
from hvp_patching.models.forecast import (
    LEAST_FOR_A_PASS,
    MOST_FOR_A_PASS,
    OVERHEAD,
    forecast,
    free_memory,
    gigabytes,
    needed,
)
from hvp_patching.models.header import Header, read_header
from hvp_patching.models.tiny import FAMILIES, build_tiny

BILLION = Header(1_000_000_000, 0, 50_000_000)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_header_counts_every_parameter_once(name: str, tmp_path: Path) -> None:
    model, _ = build_tiny(name)
    model.save_pretrained(str(tmp_path))
    found = read_header(tmp_path)
    assert found.parameters == model.num_parameters()
    assert found.largest == max(p.numel() for p in model.parameters())
    fused = {"tiny-gpt2": 3 * (32 * 96 + 96), "tiny-pythia": 3 * (32 * 96 + 96)}
    assert found.fused == fused.get(name, 0)


def test_shards_are_added_up(tmp_path: Path) -> None:
    model, _ = build_tiny("tiny-llama")
    model.save_pretrained(str(tmp_path), max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert read_header(tmp_path).parameters == model.num_parameters()


def cut(raw: bytes) -> bytes:
    return raw[:-1]


def long_header(raw: bytes) -> bytes:
    return (10**15).to_bytes(8, "little") + raw[8:]


def no_json(raw: bytes) -> bytes:
    return raw[:8] + b"x" + raw[9:]


@pytest.mark.parametrize(
    "damage", [cut, long_header, no_json, lambda raw: raw[:5], lambda raw: b""]
)
def test_a_damaged_file_is_named(checkpoint: Path, damage: Callable[[bytes], bytes]) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged or truncated"):
        read_header(checkpoint)


def test_a_header_of_wrong_kinds_is_damaged(checkpoint: Path) -> None:
    text = json.dumps({"a": {"shape": None, "data_offsets": [0, 0]}}).encode()
    (checkpoint / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ModelError, match="damaged"):
        read_header(checkpoint)


def test_need_and_have_stand_in_the_refusal() -> None:
    with pytest.raises(ModelError) as caught:
        forecast("big", BILLION, "float32", have=3_000_000_000)
    assert str(caught.value) == (
        "big: 1.00B parameters in float32 need about 4.76 GB on cpu, which has 3.00 GB free; "
        "free some memory, or use a smaller model"
    )
    with pytest.raises(ModelError, match="or float32"):
        forecast("big", BILLION, "float64", have=8_000_000_000)


def test_a_pass_gets_what_is_left_and_no_more_than_two_gib() -> None:
    weights = 4_000_000_000 + OVERHEAD
    plenty = forecast("big", BILLION, "float32", have=weights + 2 * MOST_FOR_A_PASS)
    assert (plenty.weights, plenty.a_pass) == (weights, MOST_FOR_A_PASS)
    little = forecast("big", BILLION, "float32", have=weights + 300_000_000)
    assert little.a_pass == 300_000_000
    forecast("big", BILLION, "float32", have=weights + LEAST_FOR_A_PASS)
    with pytest.raises(ModelError):
        forecast("big", BILLION, "float32", have=weights + LEAST_FOR_A_PASS - 1)
    assert "has unknown free" in forecast("big", BILLION, "float32", "cuda").text()


def test_copies_and_conversion_are_counted() -> None:
    assert needed(Header(100, 30, 40), "float32") == 130 * 4
    assert needed(Header(100, 30, 40), "float64") == 130 * 8 + 40 * 4
    with pytest.raises(ModelError, match="unknown dtype 'half'"):
        needed(BILLION, "half")


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_memory()
    assert free is not None
    assert free > 0
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 700\n")
    assert module._cgroup(tmp_path) == 2700
    (tmp_path / "memory.max").write_text("max\n")
    assert module._cgroup(tmp_path) is None
    monkeypatch.setattr(module, "_cgroup", lambda: 2700)
    assert free_memory() == 2700


def test_sizes_are_said_with_three_digits() -> None:
    assert [gigabytes(x) for x in (5.4e8, 9.99e9, 1.4e10)] == ["0.54 GB", "9.99 GB", "14 GB"]
