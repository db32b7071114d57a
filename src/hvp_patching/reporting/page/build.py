"""The report as one HTML page: ledger, tables, figures and styles in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hvp_patching.reporting.page.contradictions import Contradiction
from hvp_patching.reporting.page.exhibits import Exhibit, as_facts
from hvp_patching.reporting.page.ledger import (
    OUTCOMES,
    Entry,
    tally,
    tally_by,
    tally_queries,
)
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.run_record import Run


@dataclass(frozen=True)
class Rule:
    """A rule of the workflow: what it does, its minutes in this run, its logs."""

    name: str
    about: str
    minutes: float
    logs: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All that the page shows. Texts are HTML by name: 'easy', 'hard', 'about'."""

    entries: Sequence[Entry]
    tables: Sequence[Exhibit]
    figures: Sequence[Exhibit]
    contradictions: Sequence[Contradiction]
    rules: Sequence[Rule]
    texts: Mapping[str, str]
    facts: Mapping[str, str]
    notes: Sequence[str] = field(default_factory=tuple)


def linked(
    entries: Sequence[Entry],
    exhibits: Sequence[Exhibit],
    needs: Mapping[str, Sequence[str]],
    run: Run,
) -> list[Entry]:
    """The entries with the exhibits that show them, and the rule and log behind their source.

    ``needs`` has the artefacts that a claim asks for; else those that read its source are named.
    """
    there = {exhibit.name for exhibit in exhibits}
    found = []
    for entry in entries:
        sources = entry.row["source"].replace(";", " ").replace(",", " ").split()
        asked = [name for name in needs.get(entry.row["claim_id"], ()) if name in there]
        reading = [one.name for one in exhibits if one.reads.intersection(sources)]
        itself = [one.name for one in exhibits if set(one.files).intersection(sources)]
        names = tuple(dict.fromkeys([*itself, *asked, *reading]))
        made = next((path for path in sources if path in run.made), "")
        found.append(replace(entry, exhibits=names, rule=run.rule(made), log=run.log(made)))
    return found


def rules_of(run: Run, about: Mapping[str, str]) -> list[Rule]:
    """Every recorded rule with what it does."""
    logs: dict[str, dict[str, None]] = {}
    for made in run.made.values():
        if made.log:
            logs.setdefault(made.rule, {})[made.log] = None
    return [
        Rule(name, about.get(name, ""), minutes, tuple(logs.get(name, ())))
        for name, minutes in run.rules().items()
    ]


def caption_html(text: str, params: Mapping[str, Any]) -> str:
    """A caption of `workflow/report` as HTML; ``ReportError`` where docutils has anything to say.

    ``params`` are those of the rule whose result it describes.
    """
    from docutils.core import publish_parts
    from docutils.utils import SystemMessage

    strict = {"halt_level": 1, "report_level": 1, "warning_stream": "", "math_output": "MathML"}
    try:
        parts = publish_parts(filled(text, params), writer="html5", settings_overrides=strict)
    except SystemMessage as message:
        raise ReportError(f"a caption is no reStructuredText: {message}") from None
    return str(parts["body"])


def filled(text: str, params: Mapping[str, Any]) -> str:
    """A caption with the parameters of its rule, as Snakemake fills it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    given = SimpleNamespace(params=SimpleNamespace(**params))
    return environment.from_string(text).render(snakemake=given)


def render(report: Report, templates: Path | str) -> str:
    """The page; ``templates`` is the folder of report.html.j2, report.css and report.js."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["minutes"] = spoken_minutes
    environment.filters["facts"] = as_facts
    entries = report.entries
    return environment.get_template("report.html.j2").render(
        report=report,
        outcomes=OUTCOMES,
        tally=tally(entries),
        by_scope=tally_by(entries, "scope"),
        by_section=tally_by(entries, "section"),
        queries=tally_queries(entries),
        models=sorted({name for entry in entries for name in entry.models}),
        exhibits={one.name: one for one in (*report.tables, *report.figures)},
        css=(Path(templates) / "report.css").read_text(encoding="utf-8"),
        js=(Path(templates) / "report.js").read_text(encoding="utf-8"),
    )


def spoken_minutes(minutes: float | None) -> str:
    """A time as a reader says it: '40 s', '12 min', '2 h 5 min'; 'not recorded' for none."""
    if minutes is None:
        return "not recorded"
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    if minutes < 9.95:
        return f"{minutes:.1f} min"
    if minutes < 60:
        return f"{minutes:.0f} min"
    return f"{int(minutes // 60)} h {minutes % 60:.0f} min"
