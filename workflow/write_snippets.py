"""Writes the generated pieces of README.md and docs/ from the reference run in reference/.

python workflow/write_snippets.py          `make reference` calls it
"""

from __future__ import annotations

import sys
from pathlib import Path

# ruff: noqa: E402
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from hvp_patching.files import write_text
from hvp_patching.reporting.reference.snippets import fill, pieces


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that may have generated pieces."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def main(root: Path = ROOT) -> None:
    found = pieces(root)
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        written = fill(text, found, page.name)
        if written != text:
            write_text(page, written)
            print(f"wrote {page.relative_to(root)}")


if __name__ == "__main__":
    main()
