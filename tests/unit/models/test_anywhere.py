"""A model by any name: registry id, folder, Hub repository, alias."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvp_patching.models import ModelError, load_model, loading
from hvp_patching.models.anywhere import load_located, locate, prepared_folder
from hvp_patching.models.convert import prepare_model
from hvp_patching.models.identity import current_identity
from hvp_patching.models.tiny import build_tiny
from hvp_patching.prompts import PromptPair, tokenize

PAIR = PromptPair("Mary gave John a drink", "John gave John a drink", " Mary")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """tiny-qwen2 as a plain checkpoint, whose tokenizer puts no BOS in front."""
    model, tokenizer = build_tiny("tiny-qwen2")
    place = tmp_path / "mine"
    model.save_pretrained(str(place))
    tokenizer.save_pretrained(str(place))
    return place


@pytest.mark.parametrize("elsewhere", [None, "somewhere"])
def test_registry_models_are_looked_for_where_the_loader_does(
    elsewhere: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HVP_PATCHING_MODELS", raising=False)
    if elsewhere:
        monkeypatch.setenv("HVP_PATCHING_MODELS", elsewhere)
    assert prepared_folder("gpt2-small") == loading.models_folder() / "gpt2-small"


def test_a_tiny_model_is_built_in_memory() -> None:
    found = locate("tiny-gpt2")
    assert found.in_memory
    assert found.checkpoint is None
    model = load_located(found, "float64", "cpu")
    assert model.hvp_identity == load_model("tiny-gpt2", device="cpu").hvp_identity


def test_a_folder_of_ones_own(folder: Path) -> None:
    found = locate(str(folder))
    assert (found.name, found.registered, found.checkpoint) == ("mine", None, folder)
    model = load_located(found, "float64", "cpu")
    assert model.cfg.d_model == 32
    assert str(model.cfg.dtype) == "torch.float64"
    assert not model.hvp_spec.prepend_bos
    with_bos = load_located(found, "float32", "cpu", prepend_bos=True)
    lengths = [tokenize(one, PAIR)[0].shape[1] for one in (model, with_bos)]
    assert lengths[1] == lengths[0] + 1
    assert current_identity(model) == current_identity(with_bos)


def test_the_tokenizer_says_whether_texts_begin_with_bos(folder: Path) -> None:
    from tokenizers import processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    template = processors.TemplateProcessing(
        single=f"{tokenizer.bos_token} $A",
        special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)],
    )
    tokenizer.backend_tokenizer.post_processor = template
    tokenizer.save_pretrained(str(folder))
    model = load_located(locate(str(folder)), "float32", "cpu")
    assert model.hvp_spec.prepend_bos
    assert tokenize(model, PAIR)[0][0, :2].tolist().count(tokenizer.bos_token_id) == 1


def test_a_prepared_folder_is_its_registry_model(tmp_path: Path) -> None:
    prepare_model("tiny-gpt2", tmp_path / "here", tmp_path / "downloads")
    found = locate(str(tmp_path / "here"))
    assert (found.registered, found.place) == ("tiny-gpt2", tmp_path / "here")
    model = load_located(found, "float32", "cpu")
    assert model.hvp_spec.name == "tiny-gpt2"
    with pytest.raises(ModelError, match="tiny-gpt2 is run without a BOS token"):
        load_located(found, "float32", "cpu", prepend_bos=True)


def test_a_broken_folder_is_refused(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "nothing"}))
    with pytest.raises(ModelError, match=r"mine: cannot read .*config\.json"):
        load_located(locate(str(folder)), "float32", "cpu")
    config.unlink()
    with pytest.raises(ModelError, match=r"no config\.json in"):
        locate(str(folder))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny-gtp2", ("unknown model 'tiny-gtp2' (meant: tiny-gpt2?)", "a local folder")),
        ("", ("unknown model ''",)),
        ("./none", ("no folder ./none",)),
        ("~/none/at/all", ("no folder ~/none/at/all",)),
        ("a/b/c", ("no folder a/b/c",)),
    ],
)
def test_what_is_nowhere(name: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        locate(name)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert "\n" not in message


@pytest.mark.parametrize("name", ["nobody/no-such-model", "pythia-70m"])
def test_a_repository_without_a_network(no_network: None, name: str) -> None:
    repo = {"pythia-70m": "EleutherAI/pythia-70m"}.get(name, name)
    with pytest.raises(ModelError, match=rf"could not get {repo} \(revision v1\) from the Hub"):
        locate(name, "v1")


def test_a_repository_that_is_cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot(repo: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repo, revision))
        assert not any("bin" in pattern for pattern in allow_patterns)  # no pickle
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert locate("someone/mine").checkpoint == folder
    registered = locate("Qwen/Qwen2.5-0.5B")
    assert (registered.registered, registered.place) == ("qwen2.5-0.5b", folder)
    commit = "060db6499f32faf8b98477b0a26969ef7d8b9987"
    assert asked == [("someone/mine", "main"), ("Qwen/Qwen2.5-0.5B", commit)]
    with pytest.raises(ModelError, match=r"qwen2\.5-0\.5b has 24 layers"):  # the tiny one's are 3
        load_located(registered, "float32", "cpu")


def test_a_revision_belongs_to_a_repository(folder: Path) -> None:
    for name in (str(folder), "tiny-gpt2"):
        with pytest.raises(ModelError, match="is no Hub repository"):
            locate(name, "abc")
