"""What the report is made of besides results, and what it says about the rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from artefacts import (
    FIGURES,
    TABLES,
    artefact,
    figure_paths,
    input_files,
    named,
    table_paths,
)
from code_inputs import notebook_title

from hvp_patching.reporting.tables import about, load_table

PAGE = tuple(f"workflow/templates/report.{ending}" for ending in ("html.j2", "css", "js"))
TEXTS = ("about", "easy", "hard")


def about_rules(rules: Iterable[Any]) -> dict[str, str]:
    """What each rule does, in the words of its docstring or else of its message."""
    return {rule.name: _about(rule) for rule in rules}


def _about(rule: Any) -> str:
    text = " ".join((rule.docstring or rule.message or "").split())
    # a rule's name: for one that stands for many jobs, their wildcards say nothing
    text = re.sub(r"\{wildcards\.\w+\}", "…", text)
    return re.sub(r"…(/…)+", "…", text)


def table_parts(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Title, subject, files and results of each table, by the name of its rule."""
    found = {}
    for name in TABLES:
        rule = f"{name}_table" if name in FIGURES else name
        found[rule] = {
            "title": named(rule),
            "about": _subject(about(name)),
            "paths": table_paths(name),
            "reads": input_files(artefact(config, load_table(name))),
        }
    return found


def figure_parts(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The same of each figure, and what its caption names."""
    found = {}
    for name, line in FIGURES.items():
        made = artefact(config, line)
        found[name] = {
            "title": named(name),
            "about": notebook_title(f"notebooks/{line.notebook}.ipynb"),
            "paths": figure_paths(name),
            "reads": input_files(made),
            "settings": list(made.settings),
            "options": dict(made.options),
        }
    return found


def _subject(text: str) -> str:
    """A table's subject without its number: 'Table 8: MS-HVP …' is 'MS-HVP …'."""
    return text.partition(": ")[2] or text
