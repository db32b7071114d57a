"""What makes two models the same model: a sha256 over configuration and weights.

The store's keys begin with it, so it must change whenever an output could.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hvp_patching.models.errors import ModelError

MANIFEST = "hvp_model.json"
CHUNK = 1 << 20
# Keys of config.json that say how a file was written, not what the model computes.
COSMETIC = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"}


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _config_bytes(config: dict[str, Any]) -> bytes:
    kept = {key: value for key, value in config.items() if key not in COSMETIC}
    return json.dumps(kept, sort_keys=True, default=str).encode()


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted; ModelError where there is none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        found = f"only {', '.join(pickled)}" if pickled else "no weights"
        raise ModelError(
            f"{folder} has {found}: weights must be *.safetensors (pickle files are never read); "
            "convert the checkpoint or give another folder"
        )
    return files


def file_stamps(folder: Path) -> dict[str, list[int]]:
    """Size in bytes and modification time in ns of every file that the identity covers."""
    files = [folder / "config.json", *weight_files(folder)]
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def folder_identity(folder: Path) -> str:
    """sha256 over config.json (less its cosmetic keys) and every safetensors file."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(_config_bytes(config))
    for path in weight_files(folder):
        digest.update(f"\n{path.name}\n{sha256_file(path)}".encode())
    return digest.hexdigest()


def cached_identity(folder: Path, manifest: dict[str, Any]) -> str:
    """The manifest's identity where the files are as they were when it was taken, else anew."""
    if manifest.get("files") == file_stamps(folder) and "identity" in manifest:
        return str(manifest["identity"])
    return folder_identity(folder)


def memory_identity(model: PreTrainedModel) -> str:
    """sha256 over configuration and every weight (name, dtype, shape, bytes) of a loaded model.

    Taken before any change of dtype, and before TransformerLens wraps the modules.
    """
    digest = hashlib.sha256(_config_bytes(model.config.to_dict()))
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"\n{key} {value.dtype} {tuple(value.shape)}\n".encode())
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(raw.numpy()))
    return digest.hexdigest()
