"""A local checkpoint's content is an input: what was prepared is what is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hvp_patching.models import ModelError, content, load_model, load_tokenizer, prepare_model
from hvp_patching.models.content import checkpoint_content, file_stamps
from hvp_patching.models.tiny import build_tiny


@pytest.fixture
def prepared(checkpoint: Path, tmp_path: Path) -> Path:
    return prepare_model("gpt2-small", tmp_path / "m", tmp_path, local_folder=checkpoint)


def _other_weights(folder: Path) -> None:
    other, _ = build_tiny("tiny-gpt2", seed=7)
    other.config.hvp_stand_in_for = "gpt2-small"
    other.save_pretrained(str(folder))


def test_weights_replaced_after_preparing_are_refused(prepared: Path, checkpoint: Path) -> None:
    _other_weights(checkpoint)
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError) as caught:
            load("gpt2-small", folder=prepared)
        assert str(caught.value) == (
            f"the weights in {checkpoint} changed since {prepared / 'hvp_model.json'} was written: "
            f"delete {prepared} and run again"
        )


def test_weights_replaced_under_the_same_size_and_time_are_refused(
    prepared: Path, checkpoint: Path
) -> None:
    path = checkpoint / "model.safetensors"
    before = path.stat()
    _other_weights(checkpoint)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(ModelError, match="changed since"):
        load_model("gpt2-small", folder=prepared)


def test_a_replaced_tokenizer_is_refused(prepared: Path, checkpoint: Path) -> None:
    path = checkpoint / "tokenizer.json"
    path.write_text(path.read_text().replace("Mary", "Mari"))
    with pytest.raises(ModelError, match="changed since"):
        load_tokenizer("gpt2-small", folder=prepared)


def test_weights_replaced_in_the_prepared_folder_itself_are_refused(tmp_path: Path) -> None:
    folder = prepare_model("tiny-gpt2", tmp_path / "m", tmp_path)
    build_tiny("tiny-gpt2", seed=7)[0].save_pretrained(str(folder))
    with pytest.raises(ModelError, match="changed since"):
        load_model("tiny-gpt2", folder=folder)


def test_touched_and_copied_files_are_the_same(
    prepared: Path, checkpoint: Path, tmp_path: Path
) -> None:
    identity = json.loads((prepared / "hvp_model.json").read_text())["identity"]
    for path in checkpoint.iterdir():
        path.touch()
    assert load_model("gpt2-small", folder=prepared, device="cpu").hvp_identity == identity
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    shutil.copytree(checkpoint, tmp_path / "copy")
    shutil.rmtree(checkpoint)
    (tmp_path / "copy").rename(checkpoint)
    assert load_model("gpt2-small", folder=prepared, device="cpu").hvp_identity == identity


def test_preparing_again_takes_the_new_weights(prepared: Path, checkpoint: Path) -> None:
    before = load_model("gpt2-small", folder=prepared, device="cpu").hvp_identity
    _other_weights(checkpoint)
    prepare_model("gpt2-small", prepared, prepared.parent, local_folder=checkpoint)
    assert load_model("gpt2-small", folder=prepared, device="cpu").hvp_identity != before


def test_a_tiny_models_local_folder_is_used(tmp_path: Path) -> None:
    other, tokenizer = build_tiny("tiny-gpt2", seed=7)
    other.save_pretrained(str(tmp_path / "own"))
    tokenizer.save_pretrained(str(tmp_path / "own"))
    folder = prepare_model("tiny-gpt2", tmp_path / "m", tmp_path, local_folder=tmp_path / "own")
    found = load_model("tiny-gpt2", folder=folder, device="cpu").hvp_identity
    assert found != load_model("tiny-gpt2", device="cpu").hvp_identity


def test_the_workflow_asks_for_content_and_nothing_is_hashed_twice(
    prepared: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = prepared / "hvp_model.json"
    fresh = checkpoint_content(checkpoint, prepared.parent / "none.json")
    with monkeypatch.context() as patch:
        patch.delattr(content, "sha256_file")
        assert checkpoint_content(str(checkpoint), manifest) == fresh
    (checkpoint / "config.json").touch()
    assert checkpoint_content(checkpoint, manifest) == fresh
    _other_weights(checkpoint)
    assert checkpoint_content(checkpoint, manifest) not in {fresh, ""}
    (checkpoint / "model.safetensors").unlink()
    assert checkpoint_content(checkpoint, manifest) == ""
    assert checkpoint_content(checkpoint / "nowhere", manifest) == ""


def test_every_file_that_is_loaded_is_stamped(checkpoint: Path) -> None:
    assert set(file_stamps(checkpoint)) == {
        path.name for path in checkpoint.iterdir() if path.name != "generation_config.json"
    }


def test_content_is_told_without_torch() -> None:
    code = "import sys, hvp_patching.models.content; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
