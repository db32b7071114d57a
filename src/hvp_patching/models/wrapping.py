"""From a transformers model to a TransformerBridge: which models can be wrapped, and how."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import detect_tokenizer_bos_eos
from transformer_lens.model_bridge.sources.transformers import source
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hvp_patching.models.checkpoint import check_vocabulary
from hvp_patching.models.errors import ModelError
from hvp_patching.models.identity import record_identity
from hvp_patching.models.positions import position_limit
from hvp_patching.models.registry import ModelSpec

CAUSAL_CLASSES = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def usable_model(hf_model: Any, name: str) -> PreTrainedModel:
    """The causal language model that was handed over, out of torch.compile or DataParallel.

    Raises ModelError for anything else, in the words of what it is.
    """
    hf_model = _unwrapped(hf_model)
    if not isinstance(hf_model, PreTrainedModel):
        hint = {
            "TransformerBridge": "is wrapped already: use it as it is if from_huggingface made it",
            "HookedTransformer": "has no transformers model in it: load that one",
        }.get(type(hf_model).__name__, "is no transformers PreTrainedModel")
        if hasattr(hf_model, "merge_and_unload"):
            hint = "holds adapters: hand over what merge_and_unload() returns"
        raise ModelError(f"{name}: a {type(hf_model).__name__} {hint}")
    if any(type(module).__module__.startswith("transformer_lens") for module in hf_model.modules()):
        raise ModelError(
            f"{name}: this {type(hf_model).__name__} is wrapped already (from_huggingface works in "
            "place); keep what it returned, or load the model anew"
        )
    complaint = _not_causal(hf_model) or _weights_elsewhere(hf_model)
    if complaint:
        raise ModelError(f"{name}: {complaint}")
    return hf_model


def _unwrapped(model: Any) -> Any:
    """The module inside torch.compile and DataParallel; a model compiled in place is no more."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, torch.nn.DataParallel):
            inner = model.module
        if inner is None:
            break
        model = inner
    if isinstance(model, torch.nn.Module) and isinstance(model, PreTrainedModel):
        for module in model.modules():
            module._compiled_call_impl = None
    return model


def _not_causal(model: PreTrainedModel) -> str | None:
    kind, config = type(model).__name__, model.config
    text: Any = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        return f"{kind} is an encoder-decoder; only causal language models have one path to patch"
    classes = [base.__name__ for base in type(model).__mro__]
    if not CAUSAL_CLASSES & set(classes) and not any(c.endswith(CAUSAL_ENDINGS) for c in classes):
        return (
            f"{kind} is no causal language model with its head; load it by "
            "AutoModelForCausalLM.from_pretrained"
        )
    decoder = getattr(text, "is_decoder", None)
    encoder_family = text.model_type in ENCODERS and not decoder
    if encoder_family or getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        return f"{kind} attends to later tokens; only causal language models can be used"
    return None


# Families of masked language models whose causal class is causal under is_decoder alone.
ENCODERS = {
    *("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "electra", "ernie"),
    *("data2vec-text", "megatron-bert", "rembert", "roberta-prelayernorm", "roformer", "xmod"),
    *("big_bird", "bert-generation", "mobilebert", "xlm", "xlnet"),
}


def _weights_elsewhere(model: PreTrainedModel) -> str | None:
    kind, tensors = type(model).__name__, dict(model.named_parameters())
    if getattr(model, "is_quantized", False) or getattr(model.config, "quantization_config", None):
        return f"{kind} is quantised; load it without quantization_config"
    if getattr(model, "_hf_peft_config_loaded", False):
        return f"{kind} carries adapters; merge them into the weights and load that model"
    empty = next((key for key, weight in tensors.items() if weight.is_meta), None)
    if empty is not None:
        return f"{kind} has no weights yet ({empty} is on the meta device); load them first"
    places = sorted({str(weight.device) for weight in tensors.values()})
    if len(places) > 1:
        return f"{kind} is spread over {', '.join(places)}; load it onto one device"
    if any(hasattr(module, "_hf_hook") for module in model.modules()):
        return f"{kind} is dispatched by device_map; load it onto one device, without device_map"
    return None


def widest_dtype(model: PreTrainedModel) -> torch.dtype:
    """The floating dtype that holds every weight exactly: where kinds are mixed, the widest."""
    kinds = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    found = model.dtype
    for kind in kinds:
        found = torch.promote_types(found, kind)
    return found


def wrap(
    hf_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    spec: ModelSpec,
    identity: str,
    dtype: torch.dtype,
    device: torch.device,
) -> TransformerBridge:
    """The bridge around `hf_model`: eval mode, eager attention, no gradients on weights.

    Without a tokenizer it takes TokenPairs only. Raises ModelError where the BOS token is missing,
    the tokenizer is another model's, or TransformerLens cannot wrap the architecture.
    """
    if tokenizer is not None:
        if spec.prepend_bos and tokenizer.bos_token_id is None:
            raise ModelError(
                f"{spec.name} begins texts with a BOS token, but its tokenizer has none"
            )
        check_vocabulary(spec.name, hf_model, tokenizer)
    torch.nn.Module.to(hf_model, device=device, dtype=dtype)
    hf_model.train(False).requires_grad_(False)
    hf_model.config.return_dict = True  # the bridge reads outputs by name
    if any(getattr(module, "gradient_checkpointing", False) for module in hf_model.modules()):
        hf_model.gradient_checkpointing_disable()  # type: ignore[no-untyped-call]
    # The fused kernel for mixtures of experts knows no float64 and no second derivative.
    hf_model.set_experts_implementation("eager")
    parameters = hf_model.num_parameters()  # before the bridge adds its split copies of q, k, v
    positions = position_limit(hf_model)
    bridge = _boot(hf_model, tokenizer, spec.name, dtype, device)
    bridge.cfg.default_prepend_bos = spec.prepend_bos
    bridge.eval()
    bridge.requires_grad_(False)
    bridge.hvp_spec = spec
    bridge.hvp_parameters = parameters
    bridge.hvp_positions = positions
    record_identity(bridge, identity)
    return bridge


def _boot(
    hf_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    name: str,
    dtype: torch.dtype,
    device: torch.device,
) -> TransformerBridge:
    architecture = _name_architecture(hf_model, name)
    stand_in = _no_tokenizer() if tokenizer is None else tokenizer
    own_bos = detect_tokenizer_bos_eos(stand_in)[0] if stand_in.bos_token_id is not None else False
    # Without this mark the bridge rebuilds the tokenizer from the path or Hub id it was read from,
    # and the rebuilt one may tokenise otherwise.
    stand_in.init_kwargs.update(add_bos_token=True, name_or_path=name)
    try:
        with _no_processor():
            # Not the registry's name: TransformerLens has aliases of its own for some of them.
            bridge = TransformerBridge.boot_transformers(
                f"hvp-patching/{name}",
                hf_model=hf_model,
                tokenizer=stand_in,
                device=device,
                dtype=dtype,
            )
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(
            f"{name}: {_lens()} could not wrap the architecture {architecture} "
            f"({type(error).__name__}: {said}); use another model"
        ) from error
    bridge.cfg.tokenizer_prepends_bos = own_bos
    if tokenizer is None:
        bridge.tokenizer = None
    return bridge


@contextmanager
def _no_processor() -> Iterator[None]:
    """Boot without the processor of images and sounds that a multimodal class would come with.

    TransformerLens would ask the Hub for it under our invented name and, failing that, install
    torchvision into the running environment. Prompts are text alone.
    """
    name = "load_modality_processor"
    original = getattr(source, name)
    setattr(source, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        setattr(source, name, original)


def _name_architecture(hf_model: PreTrainedModel, name: str) -> str:
    """Write the class's own name (or that of the class it extends) where the bridge looks for it.

    The configuration may name none (from_config), or the class it was first saved from.
    """
    classes = [base.__name__ for base in type(hf_model).__mro__]
    known = next((base for base in classes if base in SUPPORTED_ARCHITECTURES), None)
    if known is None:
        raise ModelError(
            f"{name}: architecture {classes[0]} is not supported by {_lens()}; "
            "its list is transformer_lens.factories.architecture_adapter_factory"
        )
    hf_model.config.architectures = [known]
    return known


def _lens() -> str:
    return f"transformer_lens {importlib.metadata.version('transformer_lens')}"


def _no_tokenizer() -> PreTrainedTokenizerBase:
    """What the bridge is booted with where there is no tokenizer: it asks for one."""
    from tokenizers import Tokenizer, models

    empty = Tokenizer(models.WordLevel({"-": 0}, unk_token="-"))
    found: PreTrainedTokenizerBase = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=empty, bos_token="-", eos_token="-", pad_token="-"
    )
    return found
