"""Figures as files: numbers beside the drawing, provenance in both, the same bytes twice."""

from __future__ import annotations

import pandas as pd
import pytest

from hvp_patching.files import WriteError
from hvp_patching.reporting.figures.files import figure_provenance, save_figure
from hvp_patching.reporting.results import ReportError
from hvp_patching.settings import Setting


@pytest.fixture
def figure():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([0, 1], [2, 3])
    yield figure
    plt.close(figure)


FRAME = pd.DataFrame({"x": [0, 1], "y": [2.0, 3.0]})


def test_the_pdf_and_the_csv_say_where_the_numbers_come_from(tmp_path, provenance, figure):
    pdf, csv = tmp_path / "deep" / "figure.pdf", tmp_path / "figure.csv"
    save_figure(figure, FRAME, provenance, pdf, csv)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"profile: embedded" in pdf.read_bytes()
    assert csv.read_text().startswith("# profile: embedded")
    pd.testing.assert_frame_equal(pd.read_csv(csv, comment="#"), FRAME, check_dtype=False)


def test_the_same_figure_is_the_same_file(tmp_path, provenance, figure):
    for name in ("one", "two"):
        save_figure(figure, FRAME, provenance, tmp_path / name / "f.pdf", tmp_path / "f.csv")
    assert (tmp_path / "one/f.pdf").read_bytes() == (tmp_path / "two/f.pdf").read_bytes()


def test_an_empty_figure_is_refused(tmp_path, provenance, figure):
    with pytest.raises(ReportError, match="nothing to plot"):
        save_figure(figure, FRAME[:0], provenance, tmp_path / "f.pdf", tmp_path / "f.csv")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path, provenance, figure):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="could not write"):
        save_figure(figure, FRAME, provenance, tmp_path / "file" / "f.pdf", tmp_path / "f.csv")


def test_provenance_says_where_the_numbers_were_computed():
    made = {"profile": "smoke", "effort": "quick"}
    line = "computed with torch 2 on cpu (a)"
    assert figure_provenance(made | {"environments": line}, ["a/ioi"], [1]).environments == line
    assert figure_provenance(made, ["a/ioi"], [1]).environments == ""


def test_provenance_counts_the_prompts_of_each_setting():
    found = figure_provenance(
        {"profile": "smoke", "effort": "quick"}, ["tiny-gpt2/ioi", "tiny-llama/factual"], [3, 4]
    )
    assert found.prompts == {
        Setting("tiny-gpt2", "ioi"): 3,
        Setting("tiny-llama", "factual"): 4,
    }
    with pytest.raises(ReportError, match="2 settings but 1 prompt counts"):
        figure_provenance({"profile": "smoke", "effort": "quick"}, ["a/b", "c/d"], [3])
