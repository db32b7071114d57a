"""Tables and figures as the report shows them, from their files."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvp_patching.environments import described
from hvp_patching.reporting.provenance import CSV
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.run_record import Run

FRAGMENT = re.compile(r"<body>\n(.*?)<!-- fragment -->\n(.*?)<!-- end -->", re.S)


@dataclass(frozen=True)
class Exhibit:
    """A table or figure: its name in links, its title, HTML, provenance, files and time.

    ``facts`` are the comment lines of its CSV file by their names; ``devices`` is where it was
    computed; ``minutes`` are those of all jobs behind it, None where they are not recorded.
    """

    name: str
    title: str
    about: str
    caption: str
    body: str
    facts: Mapping[str, str]
    devices: str
    files: tuple[str, ...]
    rule: str
    log: str
    minutes: float | None
    reads: frozenset[str] = frozenset()


def table_exhibit(
    name: str, title: str, about: str, paths: Mapping[str, str], run: Run, reads: Sequence[str] = ()
) -> Exhibit:
    """A table from its HTML page; ``paths`` has 'html', 'csv' and 'tex'."""
    text = Path(paths["html"]).read_text(encoding="utf-8")
    match = FRAGMENT.search(text)
    if match is None:
        raise ReportError(f"{paths['html']} holds no table: make it again")
    caption = match[1].strip().removeprefix("<p>").removesuffix("</p>")
    return _exhibit(name, title, about, caption, match[2], paths, run, reads)


def figure_exhibit(
    name: str,
    title: str,
    about: str,
    caption: str,
    paths: Mapping[str, str],
    run: Run,
    reads: Sequence[str] = (),
) -> Exhibit:
    """A figure from its SVG; ``paths`` has 'svg', 'csv' and 'pdf', ``caption`` is HTML."""
    content = Path(paths["svg"]).read_bytes()
    if b"<svg" not in content[:2000]:
        raise ReportError(f"{paths['svg']} is no drawing: make it again")
    data = base64.b64encode(content).decode()
    body = f'<img alt="{title}: {about}" src="data:image/svg+xml;base64,{data}"{_size(content)}>'
    return _exhibit(name, title, about, caption, body, paths, run, reads)


def _size(svg: bytes) -> str:
    """Natural size in CSS pixels, so that the page does not jump."""
    match = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', svg[:2000])
    if match is None:
        return ""
    width, height = (round(float(points) * 4 / 3) for points in match.groups())
    return f' width="{width}" height="{height}"'


def _exhibit(
    name: str,
    title: str,
    about: str,
    caption: str,
    body: str,
    paths: Mapping[str, str],
    run: Run,
    reads: Sequence[str],
) -> Exhibit:
    facts = comment_lines(paths["csv"])
    shown = next(iter(paths.values()))
    return Exhibit(
        name,
        title,
        about,
        caption,
        body,
        facts,
        devices_of(facts.get("environments", "")),
        tuple(paths.values()),
        run.rule(shown),
        run.log(shown),
        run.minutes(shown),
        frozenset(reads),
    )


def comment_lines(path: str) -> dict[str, str]:
    """The comment on top of an artefact's CSV file by name: profile, models, prompts, …"""
    found: dict[str, str] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith(CSV):
                break
            text = line.removeprefix(CSV).strip()
            if described(text):
                found["environments"] = text
            elif ": " in text:
                name, _, said = text.partition(": ")
                found.setdefault(name, said)
    return found


def devices_of(environments: str) -> str:
    """The devices that a line of environments names, each once."""
    texts = described(environments)
    devices = (re.search(r" on (.+?), TF32", text) for text in texts)
    return "; ".join(dict.fromkeys(match[1] for match in devices if match))


def as_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a reader wants first of an artefact's comment, in words."""
    profile, _, effort = facts.get("profile", "").partition("; effort: ")
    shown = {"profile": profile, "effort": effort}
    shown |= {name: facts.get(name, "") for name in ("models", "prompts", "commit")}
    return {name: value for name, value in shown.items() if value and value != "none"}
