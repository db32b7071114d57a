"""Licence terms and other notices that must be shown before a model's first use."""

from __future__ import annotations

import sys
from pathlib import Path

from hvp_patching.models.registry import ModelSpec

_shown: set[str] = set()


def show_terms(spec: ModelSpec, folder: Path) -> None:
    """Say once per process, on stderr, what a model is not, which terms bind, where they lie."""
    if spec.name in _shown or not (spec.notice or spec.terms_url):
        return
    _shown.add(spec.name)
    if spec.notice:
        print(f"{spec.name} {spec.notice}", file=sys.stderr)
    if spec.terms_url is None:
        return
    copies = sorted(path for path in folder.glob("*TERMS*"))
    where = f"{copies[0]} and {spec.terms_url}" if copies else spec.terms_url
    print(f"{spec.name} is used under the {spec.licence}: read {where}", file=sys.stderr)
