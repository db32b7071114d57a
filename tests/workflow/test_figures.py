"""One figure of a small checkout: drawn from its notebook, left alone, redrawn, and refused."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow

FIGURE, NOTEBOOK = "figures/figure4.pdf", "notebooks/figure04_layers.ipynb"


@pytest.fixture(scope="module")
def drawn(first_run, tmp_path_factory):
    """A copy of the small checkout with Figure 4 in it."""
    import shutil

    copy = type(first_run[0])(
        tmp_path_factory.mktemp("figure") / "checkout",
        first_run[0].config | {"case_study": f"{first_run[0].model}/ioi"},
    )
    shutil.copytree(first_run[0].root, copy.root, symlinks=True)
    result = copy.snakemake(FIGURE)
    assert result.status == 0, result.output
    assert not [name for name in result.jobs() if name.startswith("compute_")]
    return copy


def test_a_figure_has_its_numbers_beside_it_and_its_notebook_as_log(drawn):
    assert (drawn.root / FIGURE).read_bytes().startswith(b"%PDF")
    csv = drawn.root / FIGURE.replace(".pdf", ".csv")
    assert csv.read_text().startswith("# profile: smoke; effort: quick\n")
    assert f"# prompts: {drawn.model}/ioi: 2\n" in csv.read_text()
    assert "\n# computed with torch 2" in csv.read_text()
    frame = pd.read_csv(csv, comment="#")
    assert len(frame)
    assert frame.select_dtypes("number").notna().any(axis=None)
    executed = json.loads(drawn.text("logs/figure4.ipynb"))
    counts = [c["execution_count"] for c in executed["cells"] if c["cell_type"] == "code"]
    assert all(counts)


def test_a_change_of_the_drawing_draws_and_no_more(drawn):
    source = drawn.text(NOTEBOOK)
    (drawn.root / NOTEBOOK).write_text(source.replace("use_style()", "use_style()  # changed"))
    assert drawn.snakemake("-n", FIGURE).jobs() == {"figure4": 1}
    (drawn.root / NOTEBOOK).write_text(source)


def test_a_notebook_that_fails_is_one_line_that_says_where_to_look(drawn):
    source = drawn.text(NOTEBOOK)
    (drawn.root / NOTEBOOK).write_text(source.replace("use_style()", "1 / 0"))
    result = drawn.snakemake(FIGURE)
    (drawn.root / NOTEBOOK).write_text(source)
    assert result.status != 0
    assert result.line("figure4: ") == (
        f"figure4: {NOTEBOOK}: ZeroDivisionError: division by zero; "
        "open logs/figure4.ipynb to see in which cell"
    )
