"""Licence terms that must be shown before a model's first use."""

from __future__ import annotations

import sys
from pathlib import Path

from hvp_patching.models.registry import ModelSpec

_shown: set[str] = set()


def show_terms(spec: ModelSpec, folder: Path) -> None:
    """Say once per process, on stderr, which terms bind the user and where they lie."""
    if spec.terms_url is None or spec.name in _shown:
        return
    _shown.add(spec.name)
    copies = sorted(path for path in folder.glob("*TERMS*"))
    where = f"{copies[0]} and {spec.terms_url}" if copies else spec.terms_url
    print(f"{spec.name} is used under the {spec.licence}: read {where}", file=sys.stderr)
