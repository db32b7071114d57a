"""The reference run as an RO-Crate: its files, the workflow, the paper, in JSON-LD.

RO-Crate 1.1 (w3id.org/ro/crate/1.1); every term is in that context, so that no other is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hvp_patching.files import write_text
from hvp_patching.reporting.reference.codecheck import FILE as MANIFEST
from hvp_patching.reporting.reference.codecheck import Entry

FILE = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
CONFORMS = "https://w3id.org/ro/crate/1.1"
WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
LICENCE = "https://spdx.org/licenses/Apache-2.0"
SNAKEMAKE, RUN, AUTHORS = "#snakemake", "#reference-run", "#authors"
WORKFLOW = "Snakefile"
FORMATS = MappingProxyType(
    {
        ".csv": "text/csv",
        ".tex": "application/x-tex",
        ".pdf": "application/pdf",
        ".svg": "image/svg+xml",
        ".yml": "application/yaml",
        ".yaml": "application/yaml",
    }
)


def crate(
    root: Path | str, entries: Sequence[Entry], run: Mapping[str, Any], paper: Mapping[str, Any]
) -> dict[str, Any]:
    """The crate of a checkout whose reference has these entries.

    run: profile, effort, config, ended (ISO 8601) and so on; paper: as ``cited_paper`` gives it.
    """
    root = Path(root)
    results = [_file(root, one.file, one.comment) for one in entries]
    inputs = [
        _file(root, run["config"], f"configuration of the profile {run['profile']}"),
        _file(root, MANIFEST, "checksum, command and minutes of every file of the run"),
    ]
    parts = [WORKFLOW, *(one["@id"] for one in (*inputs, *results))]
    descriptor = {
        "@id": FILE,
        "@type": "CreativeWork",
        "conformsTo": _ref(CONFORMS),
        "about": _ref("./"),
    }
    graph = [descriptor, _dataset(run, paper, parts), _workflow(), *inputs, *results]
    graph += [_action(run, [one.file for one in entries]), *_cited(paper), *_named()]
    return {"@context": CONTEXT, "@graph": graph}


def _dataset(
    run: Mapping[str, Any], paper: Mapping[str, Any], parts: Sequence[str]
) -> dict[str, Any]:
    """The crate's root: the run as a whole."""
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": "Replication of 'When Attribution Patching Lies': reference run",
        "description": "Every table and figure of the replication, and a verdict for every claim "
        f"of the paper, from the profile {run['profile']} at effort {run['effort']}.",
        "datePublished": run["ended"],
        "license": _ref(LICENCE),
        "author": _ref(AUTHORS),
        "mainEntity": _ref(WORKFLOW),
        "mentions": [_ref(RUN)],
        "citation": [_ref(paper["reference"])],
        "hasPart": [_ref(part) for part in parts],
    }


def _workflow() -> dict[str, Any]:
    return {
        "@id": WORKFLOW,
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "Replication of 'When Attribution Patching Lies'",
        "conformsTo": _ref(WORKFLOW_PROFILE),
        "programmingLanguage": _ref(SNAKEMAKE),
        "license": _ref(LICENCE),
        "author": _ref(AUTHORS),
    }


def _action(run: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """What made the results: the workflow with its configuration."""
    return {
        "@id": RUN,
        "@type": "CreateAction",
        "name": f"Run of the profile {run['profile']} at effort {run['effort']}",
        "description": f"commit {run['commit']}; {run['packages']}; {run['hardware']}",
        "instrument": _ref(WORKFLOW),
        "object": [_ref(run["config"])],
        "result": [_ref(path) for path in results],
        "endTime": run["ended"],
    }


def _cited(paper: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The replicated paper and its authors."""
    people = [
        {"@id": f"#{one['name'].replace(' ', '-')}", "@type": "Person", "name": one["name"]}
        for one in paper["authors"]
    ]
    article = {
        "@id": paper["reference"],
        "@type": "ScholarlyArticle",
        "name": paper["title"],
        "author": [_ref(one["@id"]) for one in people],
    }
    return [article, *people]


def _named() -> list[dict[str, Any]]:
    """What the other entities refer to."""
    return [
        {"@id": AUTHORS, "@type": "Organization", "name": "The hvp-patching authors"},
        {"@id": LICENCE, "@type": "CreativeWork", "name": "Apache License 2.0"},
        {"@id": WORKFLOW_PROFILE, "@type": "CreativeWork", "name": "ComputationalWorkflow"},
        {
            "@id": SNAKEMAKE,
            "@type": "ComputerLanguage",
            "name": "Snakemake",
            "url": "https://snakemake.readthedocs.io",
        },
    ]


def write_crate(
    root: Path | str, entries: Sequence[Entry], run: Mapping[str, Any], paper: Mapping[str, Any]
) -> None:
    """Write ``FILE`` into the checkout."""
    found = crate(root, entries, run, paper)
    write_text(Path(root) / FILE, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def _ref(name: str) -> dict[str, str]:
    return {"@id": name}


def _file(root: Path, path: str, about: str) -> dict[str, str]:
    entity = {"@id": path, "@type": "File", "name": about}
    if path != MANIFEST:  # which a codechecker may edit
        entity["contentSize"] = str((root / path).stat().st_size)
    if kind := FORMATS.get(Path(path).suffix):
        entity["encodingFormat"] = kind
    return entity
