from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from hvp_patching.models import ModelError, load_model
from hvp_patching.models.tiny import FAMILIES, build_tiny, build_tokenizer

TEXT = "When Mary and John went to the library, John gave a letter to"
HOOKS = (
    "blocks.{}.attn.hook_z",
    "blocks.{}.mlp.hook_pre",
    "blocks.{}.mlp.hook_post",
    "blocks.{}.hook_mlp_out",
    "blocks.{}.hook_resid_post",
)


def _ids(model: object, text: str = TEXT) -> torch.Tensor:
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    return torch.tensor([[model.tokenizer.bos_token_id] * model.hvp_spec.prepend_bos + ids])


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", FAMILIES)
def test_boots_without_a_network_and_matches_the_plain_model(name: str) -> None:
    bridge = load_model(name, device="cpu")
    plain, _ = build_tiny(name)
    ids = _ids(bridge)
    with torch.no_grad():
        expected = plain(ids).logits
        got = bridge(ids, return_type="logits")
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert 0.3 < expected[0, -1].std() < 3  # neither flat nor saturated


@pytest.mark.parametrize("name", FAMILIES)
def test_every_site_fires_in_every_layer(name: str) -> None:
    model = load_model(name, device="cpu")
    names = [hook.format(layer) for layer in range(model.cfg.n_layers) for hook in HOOKS]
    fired = []
    counters = [(hook, lambda value, hook, key=hook: fired.append(key)) for hook in names]
    with torch.no_grad():
        model.run_with_hooks(_ids(model), fwd_hooks=counters)
    assert sorted(fired) == sorted(names)


def _weights(model: PreTrainedModel) -> bytes:
    return b"".join(value.numpy().tobytes() for _, value in sorted(model.state_dict().items()))


@pytest.mark.parametrize("name", FAMILIES)
def test_same_seed_same_bits_whatever_the_global_generator(name: str) -> None:
    torch.manual_seed(1)
    first, tokenizer = build_tiny(name)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second, again = build_tiny(name)
    assert torch.equal(before, torch.get_rng_state())
    assert _weights(first) == _weights(second)
    assert tokenizer.backend_tokenizer.to_str() == again.backend_tokenizer.to_str()
    assert _weights(build_tiny(name, seed=1)[0]) != _weights(first)


@pytest.mark.parametrize("name", FAMILIES)
def test_words_of_the_prompts_are_single_tokens(name: str) -> None:
    tokenizer = build_tokenizer(name)
    for word in (" Mary", "Mary", " John", " library", " letter", " Paris"):
        ids = tokenizer.encode(word, add_special_tokens=False)
        assert len(ids) == 1, word
        assert tokenizer.decode(ids) == word


@pytest.mark.parametrize("name", FAMILIES)
def test_digits_split_as_the_family_does(name: str) -> None:
    tokens = build_tokenizer(name).tokenize(
        "the year 1732 to the year 17", add_special_tokens=False
    )
    digits = [token.lstrip("Ġ") for token in tokens if token.lstrip("Ġ").isdigit()]
    pairs = name in {"tiny-gpt2", "tiny-pythia"}
    assert digits == (["17", "32", "17"] if pairs else list("173217"))


def test_families_have_what_they_stand_for() -> None:
    models = {name: build_tiny(name)[0] for name in FAMILIES}
    assert models["tiny-gpt2"].transformer.wpe.weight.shape[1] == 32
    assert models["tiny-pythia"].config.use_parallel_residual
    assert models["tiny-qwen2"].model.layers[0].self_attn.q_proj.bias.abs().min() > 0
    assert models["tiny-llama"].config.num_key_value_heads == 2
    gemma = models["tiny-gemma2"].config
    assert gemma.head_dim * gemma.num_attention_heads != gemma.hidden_size
    assert gemma.layer_types.count("sliding_attention") == gemma.num_hidden_layers // 2
    assert models["tiny-gemma2"].lm_head.weight is models["tiny-gemma2"].model.embed_tokens.weight


def test_window_and_soft_caps_bite() -> None:
    model = load_model("tiny-gemma2", device="cpu")
    ids = _ids(model)
    base = model(ids, return_type="logits")
    for key, value in (("sliding_window", 4096), ("final_logit_softcapping", None)):
        plain, _ = build_tiny("tiny-gemma2")
        setattr(plain.config, key, value)
        with torch.no_grad():
            changed = plain(ids).logits
        assert (changed - base).abs().max() > 1e-3, key


def test_missing_prompt_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVP_PATCHING_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"no prompt files at .*nowhere.*HVP_PATCHING_DATA"):
        build_tokenizer("tiny-gpt2")
