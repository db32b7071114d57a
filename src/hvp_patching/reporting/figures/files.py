"""Figures as files: PDF and SVG that state where their numbers come from, and those as CSV."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hvp_patching.files import write_bytes, write_text
from hvp_patching.reporting.provenance import Provenance, collect_provenance, csv_text, header
from hvp_patching.reporting.results import ReportError
from hvp_patching.settings import Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_provenance(
    provenance: Mapping[str, str], settings: Sequence[str], counts: Sequence[int]
) -> Provenance:
    """Provenance of a figure: its profile and effort, and the prompts of each 'model/task'.

    Raises ``ReportError`` where settings and counts differ in number.
    """
    if len(settings) != len(counts):
        raise ReportError(
            f"{len(settings)} settings but {len(counts)} prompt counts: give each one"
        )
    parsed = [Setting.parse(setting) for setting in settings]
    prompts = {setting: int(n) for setting, n in zip(parsed, counts, strict=True)}
    return collect_provenance(
        provenance["profile"],
        provenance["effort"],
        prompts=prompts,
        environments=provenance.get("environments", ""),
    )


def save_figure(
    figure: Figure,
    frame: pd.DataFrame,
    provenance: Provenance,
    pdf: Path | str,
    csv: Path | str,
) -> None:
    """Write the plotted numbers as CSV, then the figure as PDF and, beside it, as SVG.

    Each whole or not at all. The provenance is the CSV's header, the PDF's subject and the SVG's
    description. Neither has a date, so the same numbers give the same files. Raises
    ``ReportError`` for an empty frame and ``WriteError`` for a failed write.
    """
    if frame.empty:
        raise ReportError(f"{pdf}: nothing to plot; the frame behind it has no rows")
    write_text(csv, csv_text(frame, provenance))
    pdf = Path(pdf)
    subject = "; ".join(header(provenance, "").splitlines())
    about = {"Title": pdf.stem, "Subject": subject, "CreationDate": None}
    write_bytes(pdf, _drawn(figure, "pdf", about))
    about = {"Title": pdf.stem, "Description": subject, "Date": None}
    write_bytes(pdf.with_suffix(".svg"), _drawn(figure, "svg", about))


def _drawn(figure: Figure, form: str, metadata: dict[str, Any]) -> bytes:
    import matplotlib as mpl

    drawing = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": metadata["Title"], "svg.fonttype": "path"}):
        figure.savefig(drawing, format=form, metadata=metadata)
    return drawing.getvalue()
