"""What every artefact says about itself in the comment lines at its top."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import pandas as pd

from hvp_patching.environments import Environment, describe
from hvp_patching.settings import Setting

PACKAGES = ("torch", "transformer_lens", "transformers", "hvp_patching")
TEX = "% "
CSV = "# "


@dataclass(frozen=True)
class Provenance:
    """Where an artefact's numbers come from.

    ``prompts`` maps settings to their number of prompts, or to ``stated_counts`` where parts of an
    artefact have different ones; it is empty for an artefact without prompts, whose models are
    then in ``models``. ``environments`` says in one line where the numbers were computed, "" for
    an artefact without any. ``notes`` are further lines.
    """

    profile: str
    effort: str
    models: tuple[str, ...]
    prompts: Mapping[Setting, int | str]
    versions: Mapping[str, str]
    commit: str
    notes: tuple[str, ...] = ()
    environments: str = ""


def collect_provenance(
    profile: str,
    effort: str,
    models: Sequence[str] = (),
    prompts: Mapping[Setting, int | str] | None = None,
    notes: Sequence[str] = (),
    folder: Path | str | None = None,
    environments: Iterable[Environment] | str = (),
) -> Provenance:
    """Provenance of an artefact made now; models named in ``prompts`` are added to ``models``.

    ``folder`` lies in the git checkout whose commit is recorded, this file's by default;
    ``environments`` are those of the results behind the artefact, or the line that describes them.
    """
    prompts = dict(prompts or {})
    named = dict.fromkeys([*models, *(setting.model for setting in prompts)])
    versions = {package: package_version(package) for package in PACKAGES}
    commit = git_commit(folder)
    places = environments if isinstance(environments, str) else describe(environments)
    return Provenance(
        profile, effort, tuple(named), prompts, versions, commit, tuple(notes), places
    )


# What prompts are for, as artefacts say it.
NEEDS = {
    "top": "largest effects",
    "all_components": "every component",
    "sweep": "sweeps",
    "probes": "probes",
    "circuits": "circuits",
    "edge_sample": "sampled edges",
    "edge_timing": "edge timing",
    "floors": "readings of the floors",
    "sets": "sets of heads",
    "spectrum": "spectra",
}


def stated_counts(counts: Mapping[str, int]) -> int | str:
    """The number of prompts, or each need's where they differ: '50 (largest effects), 20 (…)'."""
    if len(set(counts.values())) == 1:
        return next(iter(counts.values()))
    return ", ".join(f"{n} ({NEEDS[need]})" for need, n in counts.items())


def package_version(package: str) -> str:
    """Version of an installed package, "not installed" where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def git_commit(folder: Path | str | None = None) -> str:
    """Commit of the checkout that holds ``folder``, with " (modified)" where files differ from it.

    "unknown" without git, without a checkout and before the first commit.
    """
    folder = Path(__file__).parent if folder is None else Path(folder)
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return "unknown"
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit} (modified)" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def header(provenance: Provenance, prefix: str) -> str:
    """The comment lines, each with ``prefix`` (``TEX`` or ``CSV``) and a newline."""
    counts = ", ".join(f"{setting}: {n}" for setting, n in provenance.prompts.items())
    packages = ", ".join(f"{name} {number}" for name, number in provenance.versions.items())
    lines = [
        f"profile: {provenance.profile}; effort: {provenance.effort}",
        f"models: {', '.join(provenance.models) or 'none'}",
        f"prompts: {counts or 'none'}",
        f"packages: {packages}",
        f"commit: {provenance.commit}",
        *filter(None, [provenance.environments]),
        *provenance.notes,
    ]
    return "".join(f"{prefix}{' '.join(line.split())}\n" for line in lines)


def csv_text(frame: pd.DataFrame, provenance: Provenance) -> str:
    """The frame as CSV below its header; ``pd.read_csv(path, comment="#")`` gives it back."""
    # a reader that drops comments would cut an unquoted cell at its '#'
    text = frame.select_dtypes(exclude="number")
    hashes = any(column.astype(str).str.contains("#").any() for _, column in text.items())
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if hashes else csv.QUOTE_MINIMAL
    body = frame.to_csv(index=False, quoting=quoting, lineterminator="\n", float_format="%.10g")
    return header(provenance, CSV) + body
