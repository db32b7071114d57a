import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from hvp_patching.reporting.provenance import Provenance
from hvp_patching.reporting.results import Results, read_results
from hvp_patching.reporting.tables import load_table
from hvp_patching.settings import KEY, Setting

PUBLISHED = Path(__file__).parents[3] / "data" / "published"

DOCUMENT = r"""\documentclass{article}
\usepackage[margin=2.5cm]{geometry}
\usepackage{booktabs,xcolor}
\begin{document}
\input{fragment}
\end{document}
"""


DEFAULTS = {"profile": "embedded", "direction": "noising", "baselines": ["gim"]}


@pytest.fixture
def published():
    return PUBLISHED


@pytest.fixture
def provenance():
    return Provenance(
        profile="embedded",
        effort="quick",
        models=("smollm2-135m",),
        prompts={Setting("smollm2-135m", "ioi"): 2, Setting("smollm2-135m", "factual"): 3},
        versions={"torch": "2.13.0", "transformer_lens": "4.3.0"},
        commit="0123abc (modified)",
    )


@pytest.fixture
def compiles(tmp_path):
    """A check that pdflatex turns a fragment into one page without a single overfull line."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")

    def check(fragment: str) -> None:
        (tmp_path / "fragment.tex").write_text(fragment, encoding="utf-8")
        (tmp_path / "document.tex").write_text(DOCUMENT, encoding="utf-8")
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout
        assert "Output written on document.pdf (1 page" in done.stdout

    return check


@pytest.fixture
def paper(published):
    """The paper's table of a number."""
    return lambda number: pd.read_csv(published / f"table{number:02d}.csv")


@pytest.fixture
def each():
    """A function of `metrics` on every setting (and site) apart, as the rules call it."""

    def measure(table, function, *args, **options):
        keys = [name for name in (*KEY, "site") if name in table]
        parts = []
        for key, group in table.groupby(keys, sort=False):
            found = function(group.drop(columns=keys), *args, **options)
            own = pd.DataFrame(dict(zip(keys, key, strict=True)), index=found.index)
            parts.append(pd.concat([own, found], axis=1))
        return pd.concat(parts, ignore_index=True)

    return measure


@pytest.fixture
def show(paper):
    """A table as data from frames with the columns of their settings, beside the paper's."""

    def make(name, settings=None, options=None, **frames):
        table, number = load_table(name), name.removeprefix("table")
        if settings is None:
            keyed = [frame[list(KEY)] for frame in frames.values() if set(KEY) <= set(frame)]
            rows = pd.concat(keyed).drop_duplicates() if keyed else pd.DataFrame(columns=KEY)
            settings = [Setting(*row) for row in rows.itertuples(index=False, name=None)]
        chosen = DEFAULTS | (options or {})
        results = Results(frames, settings, chosen)
        return table.show(results, paper(int(number)) if table.paper else None)

    return make


@pytest.fixture
def written(paper, provenance, tmp_path):
    """A table's two files from the files of its results: the CSV read back, and the LaTeX."""

    def write(name, inputs, settings, sites=(), options=None):
        table, number = load_table(name), name.removeprefix("table")
        chosen = DEFAULTS | (options or {})
        parsed = [Setting.parse(setting) for setting in settings]
        results = read_results(inputs, parsed, sites, chosen)
        tex, csv = tmp_path / f"{name}.tex", tmp_path / f"{name}.csv"
        published = paper(int(number)) if table.paper else None
        table.write(results, provenance, published, str(tex), str(csv))
        assert csv.read_text().startswith("# profile: embedded; effort: quick\n")
        return pd.read_csv(csv, comment="#"), tex.read_text()

    return write
