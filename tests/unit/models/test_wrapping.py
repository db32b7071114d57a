"""Models of a researcher's own: right, or refused in one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    FalconConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MixtralConfig,
    Olmo2Config,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    XLMConfig,
    XLMWithLMHeadModel,
)

from hvp_patching.models import ModelError, from_huggingface, load_model
from hvp_patching.models.tiny import build_tiny, build_tokenizer
from hvp_patching.prompts import PromptError, PromptPair, TokenPair, as_token_pair, tokenize

IDS = torch.tensor([[5, 6, 7, 8]])
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "head_dim": 8,
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer("tiny-llama")


def _llama(**config: Any) -> PreTrainedModel:
    model, _ = build_tiny("tiny-llama")
    for key, value in config.items():
        setattr(model.config, key, value)
    return model


def refused(model: Any, tokenizer: Any, prepend_bos: Any = False) -> str:
    with pytest.raises(ModelError) as caught:
        from_huggingface(model, tokenizer, prepend_bos, name="mine")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def works(model: Any, tokenizer: Any, tolerance: float = 1e-5) -> Any:
    """The bridge gives the logits that a plain llama gives."""
    bridge = from_huggingface(model, tokenizer, False)
    with torch.no_grad():
        expected, got = build_tiny("tiny-llama")[0](IDS).logits, bridge(IDS)
    torch.testing.assert_close(got.float(), expected, rtol=tolerance, atol=tolerance)
    return bridge


@pytest.mark.parametrize(
    "config",
    [
        Gemma3TextConfig(**SMALL, vocab_size=3000, query_pre_attn_scalar=8),
        Olmo2Config(**{k: v for k, v in SMALL.items() if k != "head_dim"}, vocab_size=3000),
        FalconConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, vocab_size=3000),
    ],
    ids=lambda config: config.model_type,
)
def test_a_model_made_from_a_configuration_needs_no_architectures(config: Any) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    config.architectures = None
    model.config.architectures = None
    with torch.no_grad():
        expected = model(IDS).logits
        got = from_huggingface(model, None, False)(IDS)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_class_counts_not_what_the_configuration_was_saved_from(tokenizer: Any) -> None:
    works(_llama(architectures=["LlamaModel"]), tokenizer)

    class MyOwnLlama(LlamaForCausalLM):
        pass

    own = MyOwnLlama(_llama().config)
    own.load_state_dict(_llama().state_dict())
    works(own, tokenizer)


def test_an_unknown_architecture_is_named() -> None:
    config = XLMConfig(vocab_size=50, emb_dim=16, n_layers=1, n_heads=2, causal=True)
    config.is_decoder = True
    message = refused(XLMWithLMHeadModel(config), None)
    assert "XLMWithLMHeadModel" in message

    class Odd(PreTrainedModel):
        config_class = GPT2Config

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.weight = torch.nn.Parameter(torch.zeros(2))

    Odd.__name__ = "OddForCausalLM"
    message = refused(Odd(GPT2Config()), None)
    assert "architecture OddForCausalLM is not supported by transformer_lens 4.3.0;" in message


def test_a_failing_boot_is_one_line(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvp_patching.models import wrapping

    def fail(*_: object, **__: object) -> None:
        raise AttributeError("'LlamaConfig' has no\n" + "x" * 4000)

    monkeypatch.setattr(wrapping.TransformerBridge, "boot_transformers", fail)
    message = refused(_llama(), tokenizer)
    assert "could not wrap the architecture LlamaForCausalLM (AttributeError: 'Llama" in message


BERT = BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            lambda: T5ForConditionalGeneration(
                T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
            ),
            "T5ForConditionalGeneration is an encoder-decoder;",
        ),
        (lambda: BertForMaskedLM(BERT), "BertForMaskedLM is no causal language model"),
        (lambda: BertLMHeadModel(BERT), "BertLMHeadModel attends to later tokens;"),
        (
            lambda: GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)),
            "GPT2Model is no causal language model with its head;",
        ),
        (
            lambda: LlamaForSequenceClassification(_llama().config),
            "LlamaForSequenceClassification is no causal language model",
        ),
        (
            lambda: AutoModelForCausalLM.from_config(
                Gemma3TextConfig(**SMALL, vocab_size=50, use_bidirectional_attention=True)
            ),
            "Gemma3ForCausalLM attends to later tokens;",
        ),
        (lambda: torch.nn.Linear(2, 2), "a Linear is no transformers PreTrainedModel"),
        (lambda: None, "a NoneType is no transformers PreTrainedModel"),
        (lambda: "gpt2", "a str is no transformers PreTrainedModel"),
        (lambda: load_model("tiny-gpt2", device="cpu"), "a TransformerBridge is wrapped already"),
        (
            lambda: load_model("tiny-gpt2", device="cpu").original_model,
            "this GPT2LMHeadModel is wrapped already",
        ),
        (lambda: _llama(quantization_config={"bits": 4}), "LlamaForCausalLM is quantised;"),
        (lambda: _on_meta(), "has no weights yet (model.embed_tokens.weight is on the meta"),
        (lambda: _dispatched(), "LlamaForCausalLM is dispatched by device_map;"),
    ],
)
def test_what_cannot_be_used_is_named(model: Any, words: str) -> None:
    assert words in refused(model(), None)


def _on_meta() -> PreTrainedModel:
    with torch.device("meta"):
        return LlamaForCausalLM(_llama().config)


def _dispatched() -> PreTrainedModel:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    model = _llama()
    add_hook_to_module(model.model.layers[0], AlignDevicesHook())
    return model


def test_a_second_wrapping_is_refused(tokenizer: Any) -> None:
    model = _llama()
    from_huggingface(model, tokenizer, False)
    assert "is wrapped already (from_huggingface works in place)" in refused(model, tokenizer)


def test_compiled_models_are_used_uncompiled(tokenizer: Any) -> None:
    works(torch.compile(_llama()), tokenizer)
    in_place = _llama()
    in_place.compile()
    bridge = works(in_place, tokenizer)
    assert all(module._compiled_call_impl is None for module in bridge.original_model.modules())
    works(torch.nn.DataParallel(_llama()), tokenizer)


def test_settings_of_training_do_not_matter(tokenizer: Any) -> None:
    model = _llama(attention_dropout=0.5)
    model.train()
    model.gradient_checkpointing_enable()
    model.requires_grad_(True)
    bridge = works(model, tokenizer)
    assert not any(module.training for module in bridge.modules())
    assert not any(getattr(m, "gradient_checkpointing", False) for m in model.modules())


@pytest.mark.parametrize(
    "config",
    [{"return_dict": False}, {"output_hidden_states": True}, {"use_cache": False}],
    ids=lambda config: next(iter(config)),
)
def test_settings_of_outputs_do_not_matter(tokenizer: Any, config: dict[str, bool]) -> None:
    works(_llama(**config), tokenizer)


def test_mixed_dtypes_become_the_widest(tokenizer: Any) -> None:
    model = _llama()
    model.model.norm.double()
    bridge = works(model, tokenizer)
    assert {weight.dtype for weight in bridge.parameters()} == {torch.float64}
    assert bridge.cfg.dtype == torch.float64


def test_tied_weights_stay_tied() -> None:
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, tie_word_embeddings=True)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        expected = model(IDS).logits
        bridge = from_huggingface(model, None, False)
        torch.testing.assert_close(bridge(IDS), expected, rtol=1e-5, atol=1e-5)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_another_models_tokenizer_is_refused(tokenizer: Any) -> None:
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)
    message = refused(GPT2LMHeadModel(config), tokenizer)
    assert "tokens beyond the model's 50 embeddings" in message


def test_without_a_tokenizer_token_ids_are_taken(tokenizer: Any) -> None:
    bridge = works(_llama(), None)
    pair = TokenPair((5, 6, 7), (5, 9, 7), (11,))
    clean, corrupted, target = tokenize(bridge, pair)
    assert (clean.tolist(), corrupted.tolist(), target) == ([[5, 6, 7]], [[5, 9, 7]], 11)
    with pytest.raises(PromptError, match="no tokenizer, so it takes token ids only"):
        as_token_pair(bridge, PromptPair("a", "b", "c"))
    with pytest.raises(PromptError, match="outside the vocabulary"):
        as_token_pair(bridge, TokenPair((5, 6), (5, 10**6), (11,)))
    assert "no transformers tokenizer" in refused(_llama(), tokenizer.backend_tokenizer)
    assert "no transformers tokenizer" in refused(_llama(), "gpt2")


@pytest.mark.parametrize("prepend_bos", ["mine", None, 1])
def test_prepend_bos_is_true_or_false(tokenizer: Any, prepend_bos: Any) -> None:
    assert "prepend_bos is True or False" in refused(_llama(), tokenizer, prepend_bos)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, "float64", "torch.float32"])
def test_torchs_own_names_of_dtypes_and_devices(dtype: Any) -> None:
    model = load_model("tiny-gpt2", dtype=dtype, device=torch.device("cpu"))
    assert str(model.cfg.dtype) == "torch." + str(dtype).removeprefix("torch.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dtype": torch.bfloat16}, "unknown dtype torch.bfloat16; known dtypes: float32"),
        ({"dtype": float}, "unknown dtype <class 'float'>"),
        ({"dtype": None}, "unknown dtype None"),
        ({"dtype": ["float32"]}, "unknown dtype"),
        ({"device": 0}, "unknown device '0'"),
        ({"device": None}, "unknown device 'None'"),
        ({"device": torch.device("meta")}, "unknown device 'meta'; devices here: auto, cpu"),
        ({"folder": 3}, "folder must be a path, not 3"),
        ({"name": None}, "unknown model None"),
        ({"name": ["tiny-gpt2"]}, "unknown model"),
    ],
)
def test_arguments_of_another_kind_are_one_line(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(**{"name": "tiny-gpt2", **arguments})
    assert words in str(caught.value)


def test_a_folder_is_a_path_or_its_text(tmp_path: Any) -> None:
    model, tokenizer = build_tiny("tiny-gpt2")
    model.save_pretrained(str(tmp_path))
    tokenizer.save_pretrained(str(tmp_path))
    found = {load_model("tiny-gpt2", folder=f).hvp_identity for f in (tmp_path, str(tmp_path))}
    assert len(found) == 1


def test_positions_are_known_before_wrapping_and_after() -> None:
    bridge = load_model("tiny-gpt2", device="cpu")
    assert (bridge.hvp_positions.limit, bridge.hvp_positions.hard) == (256, True)
    del bridge.hvp_positions
    long = TokenPair((5,) * 257, (6,) * 257, (7,))
    with pytest.raises(PromptError, match="257 tokens, and the model has 256 positions"):
        as_token_pair(bridge, long)
    assert as_token_pair(SimpleNamespace(tokenizer=bridge.tokenizer), long).clean_ids[0] == 5


def test_experts_run_in_plain_operations(tokenizer):
    config = MixtralConfig(**SMALL, vocab_size=len(tokenizer), num_local_experts=4)
    model = AutoModelForCausalLM.from_config(config).double()
    assert model.config._experts_implementation != "eager"  # a kernel without float64
    bridge = from_huggingface(model, tokenizer, False)
    assert bool(bridge(IDS, return_type="logits").isfinite().all())


def test_a_multimodal_class_neither_asks_the_hub_nor_installs_anything(tokenizer, monkeypatch):
    def unwanted(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"asked for {args}")

    monkeypatch.setattr("subprocess.check_call", unwanted)
    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", unwanted)
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
        "intermediate_size": 64,
        "image_size": 28,
        "patch_size": 14,
    }
    text = {**SMALL, "vocab_size": len(tokenizer)}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    bridge = from_huggingface(Gemma3ForConditionalGeneration(config), tokenizer, False)
    assert bridge.cfg.is_multimodal
    assert bool(bridge(IDS, return_type="logits").isfinite().all())
