from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from hvp_patching.models import (
    ModelError,
    describe,
    from_huggingface,
    load_model,
    load_tokenizer,
    loading,
)
from hvp_patching.models.convert import prepare_model
from hvp_patching.models.registry import ModelSpec, get_spec
from hvp_patching.models.tiny import FAMILIES, build_tiny


@pytest.mark.parametrize("name", FAMILIES)
def test_loaded_for_attribution(name: str) -> None:
    model = load_model(name, device="cpu")
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.original_model.config._attn_implementation == "eager"
    assert model.hvp_spec.name == name
    assert len(bytes.fromhex(model.hvp_identity)) == 32


@pytest.mark.parametrize("name", FAMILIES)
def test_float64_is_float64_throughout_and_close_to_float32(name: str) -> None:
    single, double = (load_model(name, dtype=d, device="cpu") for d in ("float32", "float64"))
    tensors = [*double.parameters(), *double.buffers()]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float64}
    assert single.hvp_identity == double.hvp_identity
    ids = torch.tensor([single.tokenizer.encode("Mary gave a letter", add_special_tokens=False)])
    with torch.no_grad():
        a, b = single(ids), double(ids)
    assert b.dtype == torch.float64
    torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "tiny-gtp2"}, ("'tiny-gtp2'", "tiny-gpt2", "smollm2-135m")),
        ({"name": "tiny-gpt2", "dtype": "half"}, ("'half'", "float32", "float64")),
        ({"name": "tiny-gpt2", "device": "tpu"}, ("'tpu'", "auto", "cpu")),
    ],
)
def test_unknown_names_list_the_known(arguments: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(**arguments)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert "\n" not in message


def test_absent_hub_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVP_PATCHING_MODELS", str(tmp_path))
    with pytest.raises(ModelError) as caught:
        load_model("gemma-2-2b")
    message = str(caught.value)
    assert f"gemma-2-2b is not at {tmp_path / 'gemma-2-2b'}" in message
    assert "model_folders: {gemma-2-2b: PATH}" in message
    assert "\n" not in message


def test_identity_follows_the_weights(tmp_path: Path) -> None:
    names = {load_model(name, device="cpu").hvp_identity for name in FAMILIES}
    assert len(names) == len(FAMILIES)
    model, tokenizer = build_tiny("tiny-llama")
    first = from_huggingface(model, tokenizer, True).hvp_identity
    assert first == load_model("tiny-llama", device="cpu").hvp_identity
    model, _ = build_tiny("tiny-llama")
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] += 1e-6
    assert from_huggingface(model, tokenizer, True).hvp_identity != first
    model, _ = build_tiny("tiny-llama")
    model.config.rms_norm_eps = 1e-3
    assert from_huggingface(model, tokenizer, True).hvp_identity != first


def test_identity_of_a_plain_folder_follows_its_files(tmp_path: Path) -> None:
    model, tokenizer = build_tiny("tiny-gpt2")
    model.save_pretrained(str(tmp_path))
    tokenizer.save_pretrained(str(tmp_path))
    before = load_model("tiny-gpt2", folder=tmp_path, device="cpu").hvp_identity
    build_tiny("tiny-gpt2", seed=7)[0].save_pretrained(str(tmp_path))
    assert load_model("tiny-gpt2", folder=tmp_path, device="cpu").hvp_identity != before


def test_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = prepare_model("tiny-gpt2", tmp_path / "m", tmp_path)
    with pytest.raises(ModelError, match="holds tiny-gpt2, but smollm2-135m was asked for"):
        load_model("smollm2-135m", folder=folder)


def test_damaged_manifest_is_named(tmp_path: Path) -> None:
    folder = prepare_model("tiny-gpt2", tmp_path / "m", tmp_path)
    (folder / "hvp_model.json").write_text('{"name": ')
    with pytest.raises(ModelError, match=r"hvp_model\.json is damaged .*delete"):
        load_model("tiny-gpt2", folder=folder)


def test_default_folder_is_found_and_terms_shown_once(
    wheel_model: ModelSpec,
    converted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HVP_PATCHING_MODELS", str(tmp_path / "models"))
    prepare_model("fake", tmp_path / "models" / "fake", tmp_path, local_folder=converted)
    model = load_model("fake", device="cpu")
    assert load_tokenizer("fake").hvp_spec is model.hvp_spec is wheel_model
    assert capsys.readouterr().err.count("Nice terms") == 1


@pytest.mark.usefixtures("wheel_model")
def test_absent_wheel_model_is_prepared_on_the_spot(
    converted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def prepare(name: str, folder: Path, cache: Path) -> None:
        assert cache == tmp_path / "downloads"
        prepare_model(name, folder, cache, local_folder=converted)

    monkeypatch.setattr(loading, "prepare_model", prepare)
    monkeypatch.setenv("HVP_PATCHING_MODELS", str(tmp_path))
    assert load_model("fake", device="cpu").hvp_spec.name == "fake"
    assert f"fake: not at {tmp_path / 'fake'} yet" in capsys.readouterr().err
    monkeypatch.delattr(loading, "prepare_model")  # the second time it is there
    assert load_tokenizer("fake").hvp_spec.name == "fake"


def test_own_model_and_its_tokenizer_are_kept_as_they_are() -> None:
    plain, tokenizer = build_tiny("tiny-llama")
    before = dict(tokenizer.init_kwargs)
    bridge = from_huggingface(plain, tokenizer, prepend_bos=False, name="mine")
    assert tokenizer.init_kwargs == before
    assert isinstance(bridge.original_model, LlamaForCausalLM)
    assert bridge.hvp_spec.name == "mine"
    assert bridge.hvp_spec.prepend_bos is False
    text = "When Mary and John went"
    expected = tokenizer.encode(text, add_special_tokens=False)
    assert bridge.tokenizer.encode(text, add_special_tokens=False) == expected
    assert bridge.to_tokens(text).tolist() == [expected]
    bos = from_huggingface(build_tiny("tiny-llama")[0], tokenizer, prepend_bos=True)
    assert bos.to_tokens(text).tolist() == [[tokenizer.bos_token_id, *expected]]


def test_bos_without_a_bos_token_is_refused() -> None:
    plain, tokenizer = build_tiny("tiny-llama")
    tokenizer.bos_token = None
    with pytest.raises(ModelError, match="mine begins texts with a BOS token"):
        from_huggingface(plain, tokenizer, prepend_bos=True, name="mine")


@pytest.mark.parametrize(
    ("name", "activation", "layers", "kv_heads", "d_mlp"),
    [
        ("tiny-gpt2", "GeLU", 3, 4, 128),
        ("tiny-pythia", "GeLU", 3, 4, 128),
        ("tiny-qwen2", "SwiGLU", 3, 2, 64),
        ("tiny-gemma2", "GeGLU", 4, 2, 64),
        ("tiny-llama", "SwiGLU", 3, 2, 64),
    ],
)
def test_description_is_read_off_the_model(
    name: str, activation: str, layers: int, kv_heads: int, d_mlp: int
) -> None:
    found = describe(load_model(name, device="cpu"))
    assert found == {
        "model": name,
        "n_layers": layers,
        "n_heads": 4,
        "n_key_value_heads": kv_heads,
        "d_model": 32,
        "d_mlp": d_mlp,
        "activation": activation,
        "n_params": build_tiny(name)[0].num_parameters(),
        "licence": get_spec(name).licence,
        "notice": get_spec(name).notice,
    }


def test_activation_label_follows_the_config() -> None:
    plain, tokenizer = build_tiny("tiny-llama")
    plain.config.hidden_act = "relu"
    assert describe(from_huggingface(plain, tokenizer, True))["activation"] == "ReGLU"
