"""The paper's LaTeX source: its template, filled with what a run has made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hvp_patching.reporting.article.numbers import KINDS, SCOPES, outcome_word
from hvp_patching.reporting.article.signs import SIGNS, check_signs, declarations
from hvp_patching.reporting.latex import escape
from hvp_patching.reporting.page.build import filled
from hvp_patching.reporting.page.ledger import OUTCOMES
from hvp_patching.reporting.results import ReportError, records

TEMPLATE = "replication.tex.j2"
NEEDS = re.compile(r"^% needs \\usepackage\{([^}]+)\}$", re.M)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Exhibit:
    """A table or figure in the paper.

    number: the paper's, or a letter for one of our own; path: from the source's folder; caption
    and published: LaTeX, of figures alone, since a table brings its own.
    """

    name: str
    number: str
    path: str
    caption: str = ""
    published: Sequence[str] = ()


@dataclass(frozen=True)
class Article:
    """All that the template shows. Texts are LaTeX by name: 'about', 'easy', 'hard'."""

    numbers: str
    tables: Sequence[Exhibit]
    figures: Sequence[Exhibit]
    ledger: str
    contradictions: Sequence[Mapping[str, str]]
    texts: Mapping[str, str]
    profile: str
    packages: Sequence[str] = field(default_factory=tuple)


def numbered(names: Sequence[str]) -> dict[str, str]:
    """What each artefact is called: '15' of 'table15', letters for those without a number."""
    found: dict[str, str] = {}
    letters = iter(LETTERS)
    for name in names:
        digits = name.removeprefix("table").removeprefix("figure")
        found[name] = digits if digits.isdigit() else next(letters)
    return found


def latex_of(text: str, params: Mapping[str, Any]) -> str:
    """A caption or text of `workflow/report` as LaTeX; ``ReportError`` where docutils objects.

    ``params`` are those of the rule whose result it describes.
    """
    from docutils.core import publish_parts
    from docutils.utils import SystemMessage
    from docutils.writers.latex2e import CharMaps

    strict = {"halt_level": 1, "report_level": 1, "warning_stream": "", "doctitle_xform": False}
    options = strict | {"font_encoding": "", "use_latex_citations": True}
    options |= {"legacy_column_widths": False, "output_encoding": "unicode"}
    try:
        parts = publish_parts(filled(text, params), writer="latex", settings_overrides=options)
    except SystemMessage as message:
        raise ReportError(f"a caption is no reStructuredText: {message}") from None
    body = str(parts["body"]).strip()
    for code, command in CharMaps.textcomp.items():
        if chr(code) in SIGNS:  # docutils' command looks otherwise or needs another font
            body = body.replace(command, chr(code))
    return body


def caption_of_figure(latex: str) -> str:
    """A figure's caption as one paragraph, without the name that LaTeX puts before it."""
    line = " ".join(latex.split())
    return re.sub(r"^(?:Figure \d+|Convergence|Frontier)(?::| (?=\())\s*", "", line)


def published_values(frame: pd.DataFrame, name: str) -> list[str]:
    """What the paper's text says of the values in a figure, by panel, as LaTeX."""
    number = name.removeprefix("figure")
    rows = records(frame[frame["figure_id"].astype(str) == number])
    said = []
    for row in rows:
        value = str(row["published_values"]).strip()
        if value and not value.startswith("none"):
            panel = str(row["panel"]).strip()
            said.append(str(escape(f"({panel}) {value}" if panel else value)))
    return list(dict.fromkeys(said))


def contradictions(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The checks of the paper's own numbers that fail without a doubt, each cell as LaTeX."""
    columns = ("check_id", "where", "reported", "recomputed", "comment")
    plain = frame[frame["verdict"].isin(["contradiction", "mismatch"])]
    return [{name: str(escape(str(row[name]))) for name in columns} for row in records(plain)]


def needed_packages(fragments: Iterable[str]) -> list[str]:
    """Packages that the fragments' first lines ask for, each once."""
    found = (
        name for text in fragments for names in NEEDS.findall(text) for name in names.split(",")
    )
    return list(dict.fromkeys(name.strip() for name in found))


def render(article: Article, templates: Path | str) -> str:
    """The source; ``templates`` is the folder of ``TEMPLATE``. ``ReportError`` as check_signs."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # LaTeX, escaped where it is made
        undefined=StrictUndefined,
    )
    text = environment.get_template(TEMPLATE).render(
        article=article,
        signs=list(declarations()),
        kinds=KINDS,
        scopes=SCOPES,
        outcomes={outcome_word(name): one.name for name, one in OUTCOMES.items()},
    )
    check_signs("the paper's source", text.replace("\n", ""))
    return text
