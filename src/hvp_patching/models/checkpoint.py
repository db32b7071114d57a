"""A checkpoint is complete, and of the family and size it claims; everything else is refused."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hvp_patching.failures import one_line
from hvp_patching.models.content import INDEX, listed, read_json, shard_index, weight_files
from hvp_patching.models.errors import ModelError
from hvp_patching.models.plausible import check_plausible
from hvp_patching.models.registry import ModelSpec, Sizes

FLOATS = {"F64", "F32", "F16", "BF16"}
# Masks and frequencies that old checkpoints carry along; the classes compute their own.
BENIGN = re.compile(
    r"(rotary_emb\.inv_freq|\.attn\.(masked_)?bias|\.attention\.(masked_)?bias|position_ids)$"
)
# A config.json may name the model that it stands in for: of its family, of another size (tests).
STAND_IN = "hvp_stand_in_for"


def check_folder(spec: ModelSpec, folder: Path) -> None:
    """Raise ModelError unless the folder's files fit together and fit `spec`; weights stay unread.

    Checked: no adapter and nothing quantised, the configuration's family and sizes, every shard
    and every tensor that the index names.
    """
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{spec.name}: {folder} holds an adapter, not a whole model; merge it into its base "
            "model (merge_and_unload) and save that"
        )
    written = read_json(folder / "config.json")
    kind = written.get("quantization_config")
    if kind:
        method = kind.get("quant_method", "unknown") if isinstance(kind, dict) else kind
        raise ModelError(
            f"{spec.name}: the weights in {folder} are quantised ({method}); give a checkpoint of "
            "float weights, or dequantise this one and save it"
        )
    if "transformers_weights" in written:
        raise ModelError(
            f"{spec.name}: config.json in {folder} names other weights "
            f"({written['transformers_weights']!r}); remove the key transformers_weights"
        )
    shapes = _check_tensors(spec, folder)
    check_plausible(spec.name, folder / "config.json", written, shapes)
    check_config(spec, _config(spec, folder), folder)


def _config(spec: ModelSpec, folder: Path) -> PreTrainedConfig:
    try:
        found: PreTrainedConfig = AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise ModelError(
            f"{spec.name}: cannot read {folder / 'config.json'}: {_first_line(error)}"
        ) from error
    return found


def check_config(spec: ModelSpec, config: PreTrainedConfig, folder: Path) -> None:
    """Raise ModelError unless the configuration's family and sizes are those of `spec`."""
    if config.model_type not in {spec.family, f"{spec.family}_text"}:
        raise ModelError(
            f"{spec.name} is a {spec.family} model, and {folder} holds a {config.model_type} "
            f"model; give {spec.name} a folder of its own"
        )
    found = sizes_of(config)
    if spec.sizes is None or found == spec.sizes:
        return
    if getattr(config, STAND_IN, None) == spec.name:
        print(f"{spec.name}: a stand-in of {found}, no result: {folder}", file=sys.stderr)
        return
    raise ModelError(
        f"{spec.name} has {spec.sizes}, and the model in {folder} has {found}; "
        f"give {spec.name} a folder of its own"
    )


def sizes_of(config: PreTrainedConfig) -> Sizes:
    """Layers, residual width, heads and MLP width of a configuration (0: it states none)."""
    text: Any = config.get_text_config()
    width = int(getattr(text, "hidden_size", 0) or 0)
    mlp = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * width
    heads, layers = (
        getattr(text, f"num_{name}", 0) for name in ("attention_heads", "hidden_layers")
    )
    return Sizes(int(layers or 0), width, int(heads or 0), int(mlp))


def _check_tensors(spec: ModelSpec, folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors, by the headers; ModelError where these do not fit together."""
    held: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(str(path), framework="pt") as tensors:
                names = list(tensors.keys())
                slices = {name: tensors.get_slice(name) for name in names}
                kinds = {name: piece.get_dtype() for name, piece in slices.items()}
                shapes |= {name: tuple(piece.get_shape()) for name, piece in slices.items()}
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path} is damaged or truncated ({one_line(error)}): fetch it again"
            ) from error
        odd = [n for n in names if kinds[n] not in FLOATS and not BENIGN.search(n)]
        if odd:
            raise ModelError(
                f"{spec.name}: {path} holds {odd[0]} as {kinds[odd[0]]}, which is no float weight; "
                "dequantise the checkpoint and save it"
            )
        twice = sorted(held.keys() & set(names))
        if twice:
            raise ModelError(
                f"{spec.name}: {listed(twice)} stands both in {held[twice[0]].name} and in "
                f"{path.name} of {folder}; fetch the checkpoint again"
            )
        held |= dict.fromkeys(names, path)
    if (folder / INDEX).is_file():
        index = shard_index(folder)
        absent = sorted(n for n, file in index.items() if held.get(n, Path()).name != file)
        if absent:
            raise ModelError(
                f"{spec.name}: {INDEX} in {folder} names {len(absent)} weights that their shards "
                f"do not hold ({listed(absent)}); fetch the checkpoint again"
            )
    return shapes


def check_complete(spec: ModelSpec, folder: Path) -> None:
    """Raise ModelError unless the folder has exactly the model's weights; none is read."""
    read_model(spec, folder, device_map="meta")


def read_model(spec: ModelSpec, folder: Path, **options: Any) -> PreTrainedModel:
    """The model in the folder as float32; `options` go to from_pretrained.

    Raises ModelError where weights are missing, left over, of another shape or not finite.
    """
    loaded: Any
    try:
        with quiet_transformers():
            loaded = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=torch.float32,
                attn_implementation="eager",
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
    except Exception as error:
        raise ModelError(
            f"{spec.name}: cannot read the model in {folder}: {_first_line(error)}"
        ) from error
    model: PreTrainedModel
    model, report = loaded
    check_report(spec.name, str(folder), model, report)
    if "device_map" not in options:
        check_finite(spec.name, str(folder), model)
    return model


def check_report(name: str, place: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Raise ModelError unless from_pretrained's report says that every weight found its place."""
    missing = sorted(report["missing_keys"])
    unexpected = sorted(key for key in report["unexpected_keys"] if not BENIGN.search(key))
    shapes = [
        f"{key} ({'×'.join(map(str, found))} instead of {'×'.join(map(str, wanted))})"
        for key, found, wanted in sorted(report["mismatched_keys"])
    ]
    kinds = {"missing": missing, "not of this model": unexpected, "of another shape": shapes}
    complaints = [
        f"{len(names)} weight{'s' * (len(names) > 1)} {kind}: {listed(names)}"
        for kind, names in kinds.items()
        if names
    ] + [_first_line(error) for error in report.get("error_msgs", ())]
    if complaints:
        raise ModelError(
            f"{name}: {place} is not a complete {type(model).__name__}; {'; '.join(complaints)}; "
            "save the whole model, or give another checkpoint"
        )


def check_finite(name: str, place: str, model: PreTrainedModel) -> None:
    """Raise ModelError where a weight is NaN or infinite."""
    # A finite sum says as much in one pass and no copy; it may also overflow, hence the second.
    bad = [
        key
        for key, weight in model.named_parameters()
        if not torch.isfinite(weight.detach().sum()) and not torch.isfinite(weight).all()
    ]
    if bad:
        raise ModelError(
            f"{name}: {len(bad)} weights of {place} are NaN or infinite: {listed(bad)}; "
            "fetch the checkpoint again"
        )


def read_tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in the folder; ModelError where it cannot be read."""
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise ModelError(
            f"{name}: cannot read the tokenizer in {folder}: {_first_line(error)}"
        ) from error


def check_vocabulary(name: str, model: PreTrainedModel, tokenizer: Any) -> None:
    """Raise ModelError where text can become ids that the model has no embedding for.

    Special tokens beyond it are let through: text has none, and ids are checked prompt by prompt
    (Gemma 3's tokenizer has one for images).
    """
    embeddings: Any = model.get_input_embeddings()
    rows = int(embeddings.weight.shape[0])
    if len(tokenizer) <= rows:
        return
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = {t: i for t, i in tokenizer.get_vocab().items() if i >= rows and i not in special}
    if beyond:
        token, number = max(beyond.items(), key=lambda item: item[1])
        raise ModelError(
            f"{name}: the tokenizer has {len(beyond)} tokens beyond the model's {rows} embeddings "
            f"(such as {token!r}, id {number}); give the model its own tokenizer"
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back transformers' tables and bars: what is wrong is said in our one line."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300].rstrip(".")
