"""What a checkpoint folder holds: the files that are read from it, their stamps and their sha256.

Free of torch, so that the workflow can ask while it plans.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hvp_patching.failures import one_line
from hvp_patching.models.errors import ModelError

MANIFEST = "hvp_model.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CHUNK = 1 << 20
LARGEST_JSON = 1 << 26  # bytes; the largest index of a sharded checkpoint has a tenth of it
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
# Keys of config.json that say how a file was written, not what the model computes.
COSMETIC = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"}


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ModelError where it is missing, damaged, huge or no object."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ModelError(f"{path} has more than {LARGEST_JSON} bytes; fetch it again")
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"no {path.name} in {path.parent}; give a complete model folder"
        ) from error
    except ModelError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({one_line(error)}); fetch it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is damaged (no JSON object); fetch it again")
    return found


def config_bytes(config: dict[str, Any]) -> bytes:
    """What of a configuration changes the outputs, as bytes in a fixed order."""
    kept = {key: value for key, value in config.items() if key not in COSMETIC}
    return json.dumps(kept, sort_keys=True, default=str).encode()


def shard_index(folder: Path) -> dict[str, str]:
    """{weight: file} of a sharded checkpoint; ModelError where the index is damaged."""
    index = read_json(folder / INDEX).get("weight_map")
    files = list(index.values()) if isinstance(index, dict) else []
    plain = (isinstance(f, str) and Path(f).name == f and f.endswith(".safetensors") for f in files)
    if not isinstance(index, dict) or not files or not all(plain):
        raise ModelError(
            f"{folder / INDEX} is damaged: its weight_map must name *.safetensors files of the "
            "same folder; fetch it again"
        )
    return index


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that are loaded from the folder: one, or the shards of its index.

    Raises ModelError where there is none, a shard is missing, or it is not plain which are meant.
    """
    single, index = folder / WEIGHTS, folder / INDEX
    if single.is_file() and index.is_file():
        raise ModelError(
            f"{folder} has both {WEIGHTS} and {INDEX}, and only one can be meant; remove the other"
        )
    if single.is_file():
        return [single]
    if index.is_file():
        shards = sorted({folder / file for file in shard_index(folder).values()})
        absent = [path.name for path in shards if not path.is_file()]
        if absent:
            raise ModelError(
                f"{folder} lacks {len(absent)} of {len(shards)} shards that {INDEX} names "
                f"({listed(absent)}); fetch the missing files"
            )
        return shards
    others = sorted(path.name for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind))
    found = f"only {listed(others)}" if others else "no weights"
    raise ModelError(
        f"{folder} has {found}: weights must be *.safetensors named as save_pretrained names them "
        f"({WEIGHTS}, or shards with {INDEX}; pickle files are never read); convert the checkpoint "
        "or give another folder"
    )


def listed(names: list[str], limit: int = 6) -> str:
    """The names with commas, at most `limit` of them and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def content_files(folder: Path) -> list[Path]:
    """Every file that `load_model` reads from the folder: configuration, weights, tokenizer."""
    weights = weight_files(folder)
    index = [folder / INDEX] if (folder / INDEX).is_file() else []
    tokenizer = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return [folder / "config.json", *index, *weights, *tokenizer]


def file_stamps(folder: Path) -> dict[str, list[int]]:
    """Size in bytes, times of last content and status change in ns, and inode of every such file.

    A copy that keeps size and modification time (cp -p, rsync) still has another inode or status
    time, so that equal stamps mean untouched files.
    """
    found = {path.name: path.stat() for path in content_files(folder)}
    return {
        name: [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        for name, stat in found.items()
    }


def folder_identity(folder: Path) -> str:
    """sha256 over config.json (less its cosmetic keys) and every safetensors file loaded."""
    digest = hashlib.sha256(config_bytes(read_json(folder / "config.json")))
    for path in weight_files(folder):
        digest.update(f"\n{path.name}\n{sha256_file(path)}".encode())
    return digest.hexdigest()


def folder_content(folder: Path) -> str:
    """sha256 over the names and bytes of every file that `load_model` reads."""
    digest = hashlib.sha256()
    for path in content_files(folder):
        digest.update(f"{path.name}\n{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def checkpoint_content(folder: str | Path, manifest: str | Path) -> str:
    """What identifies a local checkpoint as an input: its content, "" where it cannot be read.

    `manifest`: the hvp_model.json that was made from the folder before, if any; while the files
    are as they were then, its word is taken and nothing is hashed. Preparing the model says in
    one line why a folder cannot be read.
    """
    place = Path(folder).expanduser().resolve()
    try:
        known = read_json(Path(manifest)) if Path(manifest).is_file() else {}
        if known.get("path") == str(place) and known.get("files") == file_stamps(place):
            return str(known.get("content", ""))
        return folder_content(place)
    except (ModelError, OSError):
        return ""


def verified_identity(weights: Path, manifest: dict[str, Any], place: Path) -> str:
    """The identity of the folder `weights`, which must be as the manifest in `place` says.

    Without a manifest (or with one that records no content) it is taken from the files. Raises
    ModelError where the content changed since the manifest was written.
    """
    if "content" not in manifest or "identity" not in manifest:
        return folder_identity(weights)
    untouched = manifest.get("files") == file_stamps(weights)
    if not untouched and folder_content(weights) != manifest["content"]:
        raise ModelError(
            f"the weights in {weights} changed since {place / MANIFEST} was written: "
            f"delete {place} and run again"
        )
    return str(manifest["identity"])
