"""Published autoencoders: where they lie on the Hub, at which revision, and how to fetch them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvp_patching.models.errors import ModelError

FILES = ("cfg.json", "sae_weights.safetensors")


@dataclass(frozen=True)
class Published:
    """A repository of the Hub with one folder for each hook, in sae-lens' layout.

    overrides: keys of cfg.json that its makers' own loader sets, and the files do not say.
    """

    repo: str
    revision: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


PUBLISHED: Mapping[str, Published] = {
    "gpt2-small": Published(  # Bloom (2024): ReLU, 24,576 features; the paper's [4]
        "jbloom/GPT2-Small-SAEs-Reformatted",
        "57d08a4fd333fbf18caf3fbea63ceeb88e2f50d9",
        {"model_from_pretrained_kwargs": {"center_writing_weights": True}},
    ),
}


def is_published(model: str) -> bool:
    """Whether autoencoders of a model are fetched rather than trained."""
    return model in PUBLISHED


def fetch_autoencoder(model: str, hook: str, folder: str | Path) -> Path:
    """Bring both files of one autoencoder into `folder`, cfg.json with its overrides and origin.

    ModelError where the model has none, the Hub cannot be reached, or the folder is not there.
    """
    from huggingface_hub import snapshot_download

    from hvp_patching.files import drop_damaged_blob, whole, write_text
    from hvp_patching.models.content import read_json
    from hvp_patching.models.fetch import readable_disk_errors

    source = PUBLISHED.get(model)
    if source is None:
        raise ModelError(f"no published autoencoders of {model}; known: {', '.join(PUBLISHED)}")
    try:
        with readable_disk_errors(Path(folder)):
            wanted = [f"{hook}/{name}" for name in FILES]
            root = snapshot_download(source.repo, revision=source.revision, allow_patterns=wanted)
    except ModelError:
        raise
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0][:300]
        raise ModelError(
            f"{model}: could not get {hook} of {source.repo} (revision {source.revision}) from the "
            f"Hub: {said.rstrip('.')}; check the network, or name a local copy in the config: "
            f"autoencoder_folders: {{{model}: PATH}}"
        ) from error
    found = Path(root) / hook
    absent = [name for name in FILES if not (found / name).is_file()]
    if absent:
        raise ModelError(f"{source.repo} has no {hook}/{absent[0]}; choose another hook")
    faults = list(filter(None, (drop_damaged_blob(found / name) for name in FILES)))
    if faults:
        raise ModelError(f"{model}: a damaged download in {found}: {faults[0]}")
    config = read_json(found / FILES[0]) | dict(source.overrides)
    config["origin"] = {"repo": source.repo, "revision": source.revision}
    with readable_disk_errors(Path(folder)), whole(Path(folder) / FILES[1]) as partial:
        shutil.copyfile(found / FILES[1], partial)
    write_text(Path(folder) / FILES[0], json.dumps(config, indent=2) + "\n")
    return Path(folder)
