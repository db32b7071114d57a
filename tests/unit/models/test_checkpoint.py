"""A checkpoint is complete, of the family and size it claims, or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config

from hvp_patching.models import ModelError, load_model, load_tokenizer, prepare_model, registry
from hvp_patching.models.registry import Hub, ModelSpec
from hvp_patching.models.tiny import build_tiny, build_tokenizer

Edit = Callable[[dict[str, torch.Tensor]], None]
EMBED, LAST = "model.embed_tokens.weight", "lm_head.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """tiny-llama (untied) in the Hub's format."""
    return _save("tiny-llama", tmp_path / "llama")


def _save(name: str, folder: Path, **options: str) -> Path:
    model, tokenizer = build_tiny(name)
    model.save_pretrained(str(folder), **options)
    tokenizer.save_pretrained(str(folder))
    return folder


def _edit(folder: Path, edit: Edit) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, {"format": "pt"})


def _configure(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, tmp_path: Path, name: str = "tiny-llama", prepared: bool = True) -> str:
    """The one line that both ways to the folder end in, `load_model` and the workflow's."""
    with pytest.raises(ModelError) as caught:
        load_model(name, folder=folder, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    if prepared:
        with pytest.raises(ModelError) as again:
            prepare_model(name, tmp_path / "prepared", tmp_path, local_folder=folder)
        assert str(again.value) == message
        assert not (tmp_path / "prepared").exists()
    return message


def test_an_untied_model_saved_without_its_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = build_tokenizer("tiny-llama")
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        intermediate_size=64,
        head_dim=8,
        tie_word_embeddings=False,
    )
    folder = tmp_path / "qwen3"
    AutoModelForCausalLM.from_config(config).model.save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    spec = ModelSpec("own", "qwen3", Hub("own/own"), False, "none")
    monkeypatch.setitem(registry.MODELS, "own", spec)
    message = refused(folder, tmp_path, "own")
    assert "is not a complete Qwen3ForCausalLM; 1 weight missing: lm_head.weight;" in message
    _configure(folder, tie_word_embeddings=True)  # the same files are complete where it is tied
    assert load_model("own", folder=folder, device="cpu").hvp_spec is spec


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda w: w.pop(QUERY), f"1 weight missing: {QUERY};"),
        (
            lambda w: [w.pop(key) for key in list(w) if "layers.1" in key],
            "9 weights missing: model.layers.1.input_layernorm.weight, ",
        ),
        (
            lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}),
            "1 weight not of this model: model.layers.0.self_attn.q_proj.bias;",
        ),
        (
            lambda w: w.update({QUERY: torch.zeros(16, 32)}),
            f"1 weight of another shape: {QUERY} (16×32 instead of 32×32);",
        ),
        (
            lambda w: w.update({"score.weight": torch.zeros(2, 32)}) or w.pop(LAST),
            "1 weight missing: lm_head.weight; 1 weight not of this model: score.weight;",
        ),
    ],
    ids=["one", "layer", "unexpected", "shape", "classifier"],
)
def test_weights_that_do_not_fit_are_named(
    llama: Path, tmp_path: Path, edit: Edit, words: str
) -> None:
    _edit(llama, edit)
    assert words in refused(llama, tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(llama: Path, tmp_path: Path, bad: float) -> None:
    _edit(llama, lambda weights: weights[QUERY].__setitem__((3, 4), bad))
    message = refused(llama, tmp_path, prepared=False)
    assert f"are NaN or infinite: {QUERY};" in message


def test_buffers_of_old_checkpoints_are_let_through(llama: Path) -> None:
    before = load_model("tiny-llama", device="cpu")
    _edit(
        llama,
        lambda weights: weights.update({"model.layers.0.self_attn.rotary_emb.inv_freq": OLD}),
    )
    _same_outputs(before, load_model("tiny-llama", folder=llama, device="cpu"))


OLD = torch.zeros(4)


def test_masks_of_old_gpt2_checkpoints_are_let_through(tmp_path: Path) -> None:
    folder = _save("tiny-gpt2", tmp_path / "gpt2")
    mask = torch.ones(1, 1, 256, 256, dtype=torch.bool)
    _edit(folder, lambda weights: weights.update({"transformer.h.0.attn.bias": mask}))
    _same_outputs(
        load_model("tiny-gpt2", device="cpu"),
        load_model("tiny-gpt2", folder=folder, device="cpu"),
    )


def _same_outputs(first: object, second: object, tolerance: float = 0.0) -> None:
    ids = torch.tensor([first.tokenizer.encode("Mary gave a letter", add_special_tokens=False)])
    with torch.no_grad():
        expected, got = first(ids), second(ids)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_another_familys_folder_is_refused(tmp_path: Path) -> None:
    folder = _save("tiny-gemma2", tmp_path / "gemma")
    message = refused(folder, tmp_path, "gpt2-small")
    assert message.startswith(f"gpt2-small is a gpt2 model, and {folder} holds a gemma2 model;")
    with pytest.raises(ModelError, match="holds a gemma2 model"):
        load_tokenizer("gpt2-small", folder=folder)


def test_another_sizes_folder_is_refused(tmp_path: Path) -> None:
    folder = _save("tiny-gpt2", tmp_path / "gpt2")
    message = refused(folder, tmp_path, "gpt2-small")
    assert message.startswith(
        "gpt2-small has 12 layers of width 768, 12 heads, MLP 3072, and the model in "
        f"{folder} has 3 layers of width 32, 4 heads, MLP 128;"
    )


@pytest.mark.parametrize("change", ["n_layer", "n_embd", "n_head", "n_inner"])
def test_one_other_size_is_enough(tmp_path: Path, change: str) -> None:
    folder = _save("tiny-gpt2", tmp_path / "gpt2")
    _configure(folder, **{change: 2})
    assert "tiny-gpt2 has 3 layers" in refused(folder, tmp_path, "tiny-gpt2")


def test_a_stand_in_is_taken_for_the_model_that_it_names_and_said(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model("gpt2-small", folder=checkpoint, device="cpu")
    assert (model.hvp_spec.name, model.cfg.n_layers) == ("gpt2-small", 3)
    assert "gpt2-small: a stand-in of 3 layers" in capsys.readouterr().err
    _configure(checkpoint, hvp_stand_in_for="pythia-410m")
    assert "gpt2-small has 12 layers" in refused(checkpoint, tmp_path, "gpt2-small")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(llama: Path, dtype: torch.dtype) -> None:
    halves, _ = build_tiny("tiny-llama")
    halves.to(dtype).save_pretrained(str(llama))
    model = load_model("tiny-llama", folder=llama, device="cpu")
    assert {weight.dtype for weight in model.original_model.parameters()} == {torch.float32}
    expected, _ = build_tiny("tiny-llama")
    expected.to(dtype).float()
    weight = model.original_model.get_input_embeddings().weight
    assert torch.equal(weight, expected.model.embed_tokens.weight)


def test_integers_are_no_weights(llama: Path, tmp_path: Path) -> None:
    _edit(llama, lambda w: w.update({QUERY: torch.ones(32, 32, dtype=torch.int8)}))
    assert f"holds {QUERY} as I8, which is no float weight" in refused(llama, tmp_path)


def test_a_quantised_checkpoint_is_refused(llama: Path, tmp_path: Path) -> None:
    _configure(llama, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "are quantised (gptq); give a checkpoint of float weights" in refused(llama, tmp_path)


def test_an_adapter_is_refused_whatever_else_is_there(llama: Path, tmp_path: Path) -> None:
    (llama / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "holds an adapter, not a whole model; merge it" in refused(llama, tmp_path)


def test_other_weights_named_in_the_configuration_are_refused(llama: Path, tmp_path: Path) -> None:
    _configure(llama, transformers_weights="other.safetensors")
    assert "names other weights ('other.safetensors')" in refused(llama, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"model_type": ', '{"model_type": "gpt9"}', "{}"])
def test_a_damaged_configuration_is_one_line(llama: Path, tmp_path: Path, content: str) -> None:
    (llama / "config.json").write_text(content)
    assert "config.json" in refused(llama, tmp_path)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """tiny-llama in several files with an index."""
    folder = _save("tiny-llama", tmp_path / "sharded", max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def test_shards_are_the_same_model(sharded: Path) -> None:
    _same_outputs(
        load_model("tiny-llama", device="cpu"),
        load_model("tiny-llama", folder=sharded, device="cpu"),
    )


def test_a_missing_shard_is_named(sharded: Path, tmp_path: Path) -> None:
    gone = sorted(sharded.glob("model-*.safetensors"))[1]
    gone.unlink()
    message = refused(sharded, tmp_path)
    assert f"lacks 1 of {len(list(sharded.glob('model-*'))) + 1} shards" in message
    assert gone.name in message


def _reindex(folder: Path, **names: str) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] |= names
    path.write_text(json.dumps(index))


def test_an_index_that_names_absent_tensors(sharded: Path, tmp_path: Path) -> None:
    first = sorted(sharded.glob("model-*.safetensors"))[0].name
    _reindex(sharded, **{"model.layers.7.mlp.up_proj.weight": first})
    message = refused(sharded, tmp_path)
    assert "names 1 weights that their shards do not hold" in message
    assert "model.layers.7.mlp.up_proj.weight" in message


@pytest.mark.parametrize("file", ["../elsewhere.safetensors", "model.bin", ""])
def test_an_index_that_leads_elsewhere(sharded: Path, tmp_path: Path, file: str) -> None:
    _reindex(sharded, **{QUERY: file})
    assert "is damaged: its weight_map must name" in refused(sharded, tmp_path)


def test_a_tensor_in_two_shards(sharded: Path, tmp_path: Path) -> None:
    first, second = sorted(sharded.glob("model-*.safetensors"))[:2]
    both = load_file(first) | load_file(second)
    save_file(both, second, {"format": "pt"})
    assert f"stands both in {first.name} and in {second.name}" in refused(sharded, tmp_path)


def test_one_file_and_an_index_are_one_too_many(sharded: Path, tmp_path: Path) -> None:
    whole = _save("tiny-llama", tmp_path / "whole")
    shutil.copyfile(whole / "model.safetensors", sharded / "model.safetensors")
    assert "only one can be meant; remove the other" in refused(sharded, tmp_path)


def test_safetensors_of_another_name_are_not_the_weights(llama: Path, tmp_path: Path) -> None:
    (llama / "model.safetensors").rename(llama / "consolidated.safetensors")
    assert "has only consolidated.safetensors" in refused(llama, tmp_path)


def test_files_that_are_not_loaded_do_not_change_the_identity(llama: Path) -> None:
    before = load_model("tiny-llama", folder=llama, device="cpu").hvp_identity
    save_file({"x": torch.zeros(1)}, llama / "consolidated.safetensors")
    assert load_model("tiny-llama", folder=llama, device="cpu").hvp_identity == before


def test_a_tokenizer_beyond_the_embedding_is_refused(llama: Path, tmp_path: Path) -> None:
    tokenizer = build_tokenizer("tiny-llama")
    size = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(str(llama))
    assert load_model("tiny-llama", folder=llama, device="cpu").tokenizer is not None
    tokenizer.add_tokens(["Zyxwvutsrq"])
    tokenizer.save_pretrained(str(llama))
    message = refused(llama, tmp_path, prepared=False)
    assert f"has 1 tokens beyond the model's {size} embeddings (such as 'Zyxwvutsrq'" in message
