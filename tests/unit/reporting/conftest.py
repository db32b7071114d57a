import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from hvp_patching.reporting.provenance import Provenance

PUBLISHED = Path(__file__).parents[3] / "data" / "published"

DOCUMENT = r"""\documentclass{article}
\usepackage[margin=2.5cm]{geometry}
\usepackage{booktabs,xcolor}
\begin{document}
\input{fragment}
\end{document}
"""


@pytest.fixture
def published():
    return PUBLISHED


@pytest.fixture
def provenance():
    return Provenance(
        profile="embedded",
        effort="quick",
        models=("smollm2-135m",),
        prompts={("smollm2-135m", "ioi"): 2, ("smollm2-135m", "factual"): 3},
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
def summary():
    """Two profiles: an embedded model with a gap, and the paper's GPT-2 small."""

    def lines(block, model, task, n, values):
        return [
            {
                "block": block,
                "model": model,
                "task": task,
                "estimator": method,
                "cost": cost,
                "n_prompts": n,
                "value": value,
                "ci_low": value - 0.01,
                "ci_high": value + 0.01,
                "p_vs_ap": float("nan") if method == "ap" else 0.002,
                "mark": mark,
            }
            for method, cost, value, mark in values
        ]

    embedded = [
        ("ap", 1, 0.21, "none"),
        ("hvp", 2, 0.168, "better"),
        ("ms_hvp_5", 10, 0.02341, "better"),
        ("ig_10", 10, 0.0234, "better"),
        ("gim", 1, 0.5, "worse"),
    ]
    paper = [
        *embedded[:2],
        ("ms_hvp_5", 10, 0.03, "better"),
        ("ig_10", 10, 0.05, "none"),
        embedded[4],
    ]
    rows = lines("embedded", "smollm2-135m", "greater_than", 2, embedded)
    rows += lines("paper", "gpt2-small", "ioi", 100, [*paper, ("ih_pi_5", 10, 0.1, "none")])
    rows += lines("paper", "gemma-2-2b", "greater_than", 50, paper)
    return pd.DataFrame(rows)
