"""The ledger as a LaTeX longtable, by section."""

from __future__ import annotations

import math

import pandas as pd

from hvp_patching.claims.ledger import sentences
from hvp_patching.reporting.latex import Tex, cell, escape
from hvp_patching.reporting.names import model_name, task_name
from hvp_patching.reporting.provenance import TEX, Provenance, header
from hvp_patching.reporting.results import Record, records

PACKAGES = ("booktabs", "longtable", "array", "xcolor")
HEADING = ("Claim", "What the paper says", "Verdict", "Published", "Ours", "Where")
WIDTHS = ("p{0.9cm}", "p{5.1cm}", "p{2.5cm}", "r", "r", "p{2.6cm}")
CAPTION = (
    "Every claim of the paper with a verdict. Ours: the number that speaks least for the claim, "
    "with its 95% interval over prompts. Verdicts say how far the evidence goes: on the paper's "
    "own model, on other models, by the paper's own numbers, or by computing a definition."
)


def longtable(frame: pd.DataFrame, provenance: Provenance) -> str:
    """The ledger's rows below a header comment; needs ``PACKAGES``."""
    columns = "".join(
        rf">{{\raggedright\arraybackslash}}{width}" if width.startswith("p") else width
        for width in WIDTHS
    )
    head = " & ".join(escape(name) for name in HEADING) + r" \\"
    lines = [
        rf"% needs \usepackage{{{','.join(PACKAGES)}}}",
        r"{\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
        rf"\caption{{{escape(CAPTION)}}}\label{{tab:claims}}\\",
        *(r"\toprule", head, r"\midrule", r"\endfirsthead"),
        *(r"\toprule", head, r"\midrule", r"\endhead"),
        *(r"\bottomrule", r"\endfoot"),
    ]
    for section, rows in frame.groupby("section", sort=False):
        lines += [
            rf"\multicolumn{{{len(WIDTHS)}}}{{@{{}}l}}{{\textit{{{escape(_title(section))}}}}} \\"
        ]
        lines += [_line(row) for row in records(rows)]
        lines.append(r"\addlinespace")
    lines += [r"\end{longtable}}", r"\begin{itemize}\footnotesize"]
    lines += [rf"\item {escape(sentence)}" for sentence in sentences(frame)]
    lines += [r"\end{itemize}", ""]
    return header(provenance, TEX) + "\n".join(lines)


def _title(section: object) -> str:
    text = str(section)
    return text.capitalize() if text[0].isalpha() and text.islower() else f"Section {text}"


def _line(row: Record) -> str:
    cells = [
        str(row["claim_id"]),
        str(row["claim"]),
        str(row["verdict"]) + (f" [{row['scope']}]" if row["scope"] != row["verdict"] else ""),
        str(row["published"]),
        _ours(row),
        _where(row),
    ]
    return " & ".join(cell(text) for text in cells) + r" \\"


def _ours(row: Record) -> Tex | str:
    value, low, high = (float(str(row[name])) for name in ("ours", "ci_low", "ci_high"))
    if math.isnan(value):
        return ""
    shown = _plain(value)
    if math.isnan(low) or math.isnan(high):
        return shown
    return Tex(f"{shown} [{_plain(low)}, {_plain(high)}]")


def _plain(value: float) -> Tex:
    text = f"{value:.3g}"
    if "e" in text:
        digits, power = text.split("e")
        return Tex(rf"${digits}\times10^{{{int(power)}}}$")
    return Tex(f"${text}$")


def _where(row: Record) -> str:
    if not row["model"]:
        return ""
    n = row["n"]
    counted: str = "" if pd.isna(n) else f", n = {n}"
    return f"{model_name(str(row['model']))} {task_name(str(row['task']))}{counted}"
