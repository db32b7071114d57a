"""A model by any name: the registry's, a local folder, a repository of the Hub, a known alias."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvp_patching.models.content import MANIFEST, read_json
from hvp_patching.models.errors import ModelError
from hvp_patching.models.registry import MODELS, Hub, Local, ModelSpec, Tiny, list_models

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WAYS = "a registry id, a local folder or a Hub repository such as EleutherAI/pythia-70m"


@dataclass(frozen=True)
class Located:
    """Where a model is: its registry id or none, and its folders.

    checkpoint: the folder with config.json and weights, None for what is built in memory or still
    to be fetched. place: the folder to load from, None for load_model's own.
    """

    name: str
    registered: str | None
    checkpoint: Path | None
    place: Path | None = None

    @property
    def in_memory(self) -> bool:
        """Whether it is a seeded random model, which has no folder."""
        spec = MODELS.get(self.registered or "")
        return self.checkpoint is None and spec is not None and isinstance(spec.source, Tiny)


def prepared_folder(name: str) -> Path:
    """Where load_model looks for a model of the registry, whether or not it is there."""
    return Path(os.environ.get("HVP_PATCHING_MODELS") or Path("data") / "models") / name


def checkpoint_of(place: Path) -> Path | None:
    """The folder with config.json that a prepared folder is or points to, None without one."""
    weights = place
    if (place / MANIFEST).is_file():
        weights = Path(str(read_json(place / MANIFEST).get("path") or place))
    return weights if (weights / "config.json").is_file() else None


def locate(name: str, revision: str | None = None) -> Located:
    """Find a model by a registry id, a folder, a Hub repository or a TransformerLens alias.

    A repository is fetched (at `revision`) unless it is cached. A folder that is called as a
    registry id is written with a slash: ./gpt2-small. ModelError where there is none.
    """
    if revision is not None and (name in MODELS or _is_folder(name)):
        raise ModelError(f"revision {revision} is given, but {name} is no Hub repository")
    if name in MODELS:
        built = isinstance(MODELS[name].source, Tiny)
        return Located(name, name, None if built else checkpoint_of(prepared_folder(name)))
    if _is_folder(name):
        return _of_folder(Path(name).expanduser())
    if name.count("/") == 1 and all(name.split("/")) and not name.startswith((".", "~")):
        return _of_hub(name, revision)
    if "/" in name or "\\" in name or name.startswith((".", "~")):
        raise ModelError(f"no folder {name}; give {WAYS}")
    return _of_hub(_official_name(name), revision)


def _is_folder(name: str) -> bool:
    return bool(name) and Path(name).expanduser().is_dir()


def _of_folder(place: Path) -> Located:
    manifest = read_json(place / MANIFEST) if (place / MANIFEST).is_file() else {}
    registered = manifest.get("name")
    weights = checkpoint_of(place)
    if weights is None:
        raise ModelError(f"no config.json in {place}; give a complete model folder")
    if registered in MODELS:
        return Located(str(registered), str(registered), weights, place)
    return Located(place.resolve().name, None, weights, weights)


def _of_hub(repo: str, revision: str | None) -> Located:
    for spec in MODELS.values():
        if isinstance(spec.source, Hub) and spec.source.repo == repo:
            fetched = _fetched(repo, revision or spec.source.revision)
            return Located(repo, spec.name, fetched, fetched)
    fetched = _fetched(repo, revision or "main")
    return Located(repo, None, fetched, fetched)


def _fetched(repo: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    from hvp_patching.models.convert import HUB_FILES
    from hvp_patching.models.fetch import readable_disk_errors

    try:
        with readable_disk_errors(Path(repo)):
            return Path(snapshot_download(repo, revision=revision, allow_patterns=HUB_FILES))
    except ModelError:
        raise
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ModelError(
            f"could not get {repo} (revision {revision}) from the Hub: {said[:200].rstrip('.')}; "
            "check the name and the network, or give a local folder"
        ) from error


def _official_name(name: str) -> str:
    """The Hub repository behind a TransformerLens alias (pythia-70m); ModelError for none."""
    from transformer_lens.supported_models import get_official_model_name

    try:
        return get_official_model_name(name)
    except ValueError as error:
        near = difflib.get_close_matches(name, list_models(), 1)
        hint = f" (meant: {near[0]}?)" if near else ""
        known = ", ".join(list_models())
        raise ModelError(f"unknown model {name!r}{hint}; give {WAYS}; registry: {known}") from error


def load_located(
    found: Located,
    dtype: str = "float32",
    device: str = "auto",
    prepend_bos: bool | None = None,
) -> TransformerBridge:
    """Load what `locate` found, hooked by TransformerLens.

    prepend_bos: for a model outside the registry, whether a BOS token begins every prompt; by
    default as its own tokenizer does it. ModelError as load_model.
    """
    from hvp_patching.models.loading import load_model

    if found.registered is None:
        return _load_checkpoint(found, dtype, device, prepend_bos)
    spec = MODELS[found.registered]
    if prepend_bos is not None and prepend_bos != spec.prepend_bos:
        how = "with" if spec.prepend_bos else "without"
        raise ModelError(f"{spec.name} is run {how} a BOS token, as the registry says")
    return load_model(found.registered, dtype, device, found.place)


def _load_checkpoint(
    found: Located, dtype: str, device: str, prepend_bos: bool | None
) -> TransformerBridge:
    from hvp_patching.models import loading
    from hvp_patching.models.checkpoint import check_folder, read_model, read_tokenizer
    from hvp_patching.models.content import folder_identity
    from hvp_patching.models.wrapping import usable_model, wrap

    if found.checkpoint is None:
        raise ModelError(f"{found.name} has no folder to be loaded from; give {WAYS}")
    name, folder = found.name, found.checkpoint
    torch_dtype, torch_device = loading._dtype(dtype), loading._device(device)
    family = str(read_json(folder / "config.json").get("model_type", ""))
    spec = ModelSpec(name, family, Local(), False, "the user's")
    check_folder(spec, folder)
    tokenizer = read_tokenizer(name, folder)
    bos = _begins_with_bos(tokenizer) if prepend_bos is None else prepend_bos
    spec = ModelSpec(name, family, Local(), bos, "the user's")
    hf_model = usable_model(read_model(spec, folder), name)
    return wrap(hf_model, tokenizer, spec, folder_identity(folder), torch_dtype, torch_device)


def _begins_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself puts a BOS token in front of a text."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
