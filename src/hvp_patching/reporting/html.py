"""Tables as HTML fragments, from the same grids that become LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape as plain

from hvp_patching.reporting.inline import to_html
from hvp_patching.reporting.latex import Block, Row, Space, Span, Tabular, cell

STYLE = """
body{font:16px/1.45 system-ui,sans-serif;margin:1.5rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.2rem .6rem;text-align:left;vertical-align:baseline}
thead{border-top:2px solid;border-bottom:1px solid}tbody{border-bottom:2px solid}
tr.block th{font-style:italic;font-weight:400;border-top:1px solid #999;padding-top:.4rem}
tr.space td{padding:.2rem}th{font-weight:500}.r{text-align:right}.c{text-align:center}
.grid{overflow-x:auto;margin:.6rem 0}.gray,.gray small{color:#666}.mark{font-size:.7em}
.span{border-bottom:1px solid #999}p.notes{max-width:60rem;font-size:.85rem;margin:.3rem 0}
.frac{font-feature-settings:"frac"}.up{font-style:normal}
"""


def fragment(grids: Sequence[Tabular], notes: Sequence[str] = ()) -> str:
    """The grids one below the other, then the notes; raises as ``to_html``."""
    parts = [f'<div class="grid">{_table(grid)}</div>' for grid in grids]
    parts += [f'<p class="notes">{to_html(note)}</p>' for note in notes]
    return "\n".join(parts) + "\n"


def page(title: str, caption: str, body: str, provenance: str) -> str:
    """A page of its own around a fragment, readable without anything else.

    ``caption`` is plain text or ``Tex``; ``provenance`` are the comment lines of an artefact.
    """
    comment = plain(provenance, quote=False).replace("--", "- -")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{plain(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<p>{to_html(caption)}</p>\n<!-- fragment -->\n{body}<!-- end -->\n"
        f"<!--\n{comment}-->\n</body>\n</html>\n"
    )


def _table(grid: Tabular) -> str:
    aligns = alignments(grid.align)
    head = "".join(_row(row, aligns, "th") for row in grid.header)
    body = "".join(_row(row, aligns, "td") for row in grid.rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def alignments(spec: str) -> str:
    """One letter (l, c or r) per column of LaTeX's column specification."""
    return re.sub(r"[^lcrp]", "", re.sub(r"[@!]?{[^}]*}", "", spec)).replace("p", "l")


def _row(row: Row, aligns: str, tag: str) -> str:
    if isinstance(row, Block):
        return f'<tr class="block"><th colspan="{len(aligns)}">{to_html(row.title)}</th></tr>'
    if isinstance(row, Space):
        return f'<tr class="space"><td colspan="{len(aligns)}"></td></tr>'
    cells, column = [], 0
    for value in row:
        if isinstance(value, Span):
            align = alignments(value.align)[:1]
            names = f"{align} span" if tag == "th" else align
            width = f' colspan="{value.columns}"'
            cells.append(f'<{tag} class="{names}"{width}>{to_html(value.text)}</{tag}>')
            column += value.columns
        else:
            align = aligns[column]
            shown = f' class="{align}"' if align != "l" else ""
            cells.append(f"<{tag}{shown}>{to_html(cell(value))}</{tag}>")
            column += 1
    return f"<tr>{''.join(cells)}</tr>"
