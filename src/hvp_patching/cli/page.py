"""A run as one HTML page: its sentence, the ranked table with error bars, and how it came about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from hvp_patching.cli.run import Run
from hvp_patching.cli.show import HOW, ends, interval, number, scale_of
from hvp_patching.reporting.html import STYLE

MOST = 1000  # rows; the other formats hold them all
WIDTH, HEIGHT = 240, 14  # of an error bar, in pixels
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style|safe }}
svg{display:block}dl{display:grid;grid-template-columns:max-content auto;gap:.1rem 1rem;
font-size:.85rem}dt{color:#666}dd{margin:0;overflow-wrap:anywhere}</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ sentence }}</p>
{% if more %}<p>The first {{ rows|length }} components are shown; a .csv or .json file has the
other {{ more }} too.</p>{% endif %}
<div class="grid"><table>
<thead><tr>{% for heading in headings %}\
<th class="{{ 'r' if loop.index != 2 else 'l' }}">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows -%}
<tr>{% for cell in row.cells %}<td class="{{ 'r' if loop.index != 2 else 'l' }}">{{ cell }}</td>\
{% endfor %}<td><svg width="{{ width }}" height="{{ height }}" role="img" \
aria-label="{{ row.label }}"><line x1="{{ zero }}" x2="{{ zero }}" y1="0" y2="{{ height }}" \
stroke="#bbb"/>{% if row.low is not none %}<line x1="{{ row.low }}" x2="{{ row.high }}" \
y1="7" y2="7" stroke="#0072B2" stroke-width="2"/>{% endif %}<circle cx="{{ row.at }}" cy="7" \
r="3.5" fill="#D55E00"/></svg></td></tr>
{% endfor -%}
</tbody></table></div>
<h2>How it came about</h2>
<dl>{% for name, value in facts.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
</body>
</html>
"""


def page(run: Run, facts: Mapping[str, str]) -> str:
    """The page; at most 1,000 components are shown."""
    first = run.columns[0]
    shown = run.frame.head(MOST)
    least, most = scale_of(shown, first)

    def place(value: float) -> float:
        value = max(least, min(most, value))
        share = (value - least) / (most - least) if most > least else 0.5
        return round(5 + share * (WIDTH - 10), 1)

    rows = []
    for row in shown.to_dict("records"):
        low, high = ends(row, first)
        cells = [str(row["rank"]), str(row["component"])]
        for column in run.columns:
            cells.append(number(row[column.name]))
            cells += [interval(low, high)] if column is first else []
        cells += [str(row[HOW])] if HOW in row else []
        known = not (math.isnan(low) or math.isnan(high))
        places: dict[str, Any] = (
            {"low": place(low), "high": place(high)} if known else {"low": None}
        )
        label = f"{row['component']}: {number(row[first.name])} {interval(low, high)}"
        rows.append({"cells": cells, "at": place(float(row[first.name])), "label": label, **places})
    headings = ["#", "component"]
    for column in run.columns:
        headings += [column.heading, *(["interval"] if column is first else [])]
    headings += ([HOW] if HOW in shown else []) + [""]
    template = Environment(autoescape=True).from_string(TEMPLATE)
    return (
        template.render(
            title=f"{run.title}: {run.facts['model']}, {run.facts['site']}",
            style=STYLE,
            sentence=run.sentence,
            rows=rows,
            more=len(run.frame) - len(shown),
            headings=headings,
            facts=facts,
            width=WIDTH,
            height=HEIGHT,
            zero=place(0.0),
        )
        + "\n"
    )
