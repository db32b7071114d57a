"""The paper: numbers as macros, a text without any of its own, and LaTeX's run."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hvp_patching.reporting.article.document import (
    Article,
    Exhibit,
    caption_of_figure,
    contradictions,
    latex_of,
    needed_packages,
    numbered,
    published_values,
    render,
)
from hvp_patching.reporting.article.numbers import (
    check_numbers,
    comparison_numbers,
    macros,
    read_macros,
    run_facts,
    verdict_numbers,
)
from hvp_patching.reporting.article.signs import KNOWN, SIGNS, check_signs
from hvp_patching.reporting.article.typesetting import overfull, reason, typeset
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.run_record import Made, Run

ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "workflow"))

from artefacts import FIGURES  # noqa: E402

TEMPLATES = ROOT / "workflow/templates"
TEMPLATE = (TEMPLATES / "replication.tex.j2").read_text(encoding="utf-8")
COUNTS = pd.DataFrame(
    [
        ("claims", "other models", "holds", 3),
        ("claims", "other models", "fails", 2),
        ("claims", "the paper's own numbers", "contradicts", 1),
        ("claims", "definition or fact", "computed: agrees", 4),
        ("claims", "not run", "not run", 2),
        ("questions", "other models", "holds", 1),
        ("questions", "not run", "not run", 1),
    ],
    columns=["of", "scope", "verdict", "count"],
)
# what the script adds to the numbers of verdicts, cells, checks and the run
OTHERS = {"Profile": "smoke", "Effort": "quick"}
CSV = (
    "# profile: smoke; effort: quick\n# models: tiny-gpt2\n# packages: torch 2.13.0\n"
    "# commit: 0123456789abcdef (modified)\n"
    "# computed with torch 2.13.0, transformers 5, transformer_lens 4 on cpu (AMD_EPYC), TF32 off, "
    "eager attention, float32\na\n1\n"
)


@pytest.fixture
def numbers(tmp_path):
    path = tmp_path / "table1.csv"
    path.write_text(CSV)
    run = Run({str(path): Made("table1", (), "", 0.0, 90.0)})
    cells = comparison_numbers(pd.DataFrame({"ours": [1.0, None, None]}))
    checks = check_numbers(pd.DataFrame({"verdict": ["consistent", "contradiction", "tension"]}))
    return OTHERS | verdict_numbers(COUNTS) | cells | checks | run_facts([str(path)], run)


def test_verdicts_are_counted_by_kind_scope_and_outcome():
    found = verdict_numbers(COUNTS)
    assert found["NumClaims"] == "12"
    assert found["NumClaimsHolds"] == "7"  # holds and 'computed: agrees'
    assert found["NumClaimsFails"] == "3"  # fails and contradicts
    assert found["NumClaimsNotRun"] == "2"
    assert found["NumClaimsOtherModelsHolds"] == "3"
    assert found["NumClaimsOtherModelsAll"] == "5"
    assert found["NumClaimsPaperModelAll"] == "0"
    assert found["NumQuestions"] == "2"
    assert found["EvidenceShare"] == "83.3"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("claims", "hearsay", "holds", 1)], "the scope 'hearsay'"),
        ([("claims", "other models", "perhaps", 1)], "the verdict 'perhaps'"),
        ([("questions", "other models", "holds", 1)], "no claims"),
    ],
)
def test_a_count_that_has_no_name_is_refused(rows, message):
    with pytest.raises(ReportError, match=message):
        verdict_numbers(pd.DataFrame(rows, columns=COUNTS.columns))


def test_numbers_of_the_run_and_the_comparison(numbers):
    assert numbers["NumCells"] == "3"
    assert [numbers[f"Num{name}"] for name in ("Checks", "Contradictions", "Mismatches")] == [
        *("3", "1", "0")
    ]
    assert (numbers["NumCellsBeside"], numbers["NumCellsWithout"]) == ("1", "2")
    assert numbers["TimeAll"] == "1.5 min"
    assert numbers["Commits"] == "0123456789 (modified)"
    assert numbers["Hardware"] == "cpu (AMD_EPYC)"


def test_macros_are_escaped_and_read_back(numbers):
    text = macros(numbers, "% profile: smoke\n")
    assert text.startswith("% profile: smoke\n\\newcommand{\\Profile}{smoke}\n")
    assert read_macros(text)["Hardware"] == r"cpu (AMD\_EPYC)"
    assert set(read_macros(text)) == set(numbers)
    with pytest.raises(ReportError, match="'Table2' can be no macro"):
        macros({"Table2": "1"}, "")


def running_text(template: str) -> str:
    """What a reader reads of the template: no preamble, no commands' arguments that are lengths."""
    body = template.partition(r"\maketitle")[2]
    body = re.sub(r"<%.*?%>|<<.*?>>|<#.*?#>", " ", body, flags=re.S)
    body = re.sub(r"\\(?:setlength\{[^}]*\}|begin\{longtable\})\{.*\}", " ", body)
    return re.sub(r"\\begin\{tabular\}\{.*\}|p\{[\d.]+cm\}", " ", body)


def test_the_text_of_the_paper_has_no_number_of_its_own():
    assert re.findall(r".*\d.*", running_text(TEMPLATE)) == []
    # the search would find one
    typed = TEMPLATE.replace(r"\NumClaims{} quantitative", "377 quantitative")
    assert typed != TEMPLATE
    assert len(re.findall(r".*\d.*", running_text(typed))) == 1


def test_every_number_that_the_text_says_is_written(numbers):
    said = set(re.findall(r"\\((?:Num|Evidence|Time)[A-Za-z]+)", TEMPLATE))
    said = {name for name in said if name != "NumClaims"} | {"NumClaims", "Models", "Commits"}
    assert len(said) > 15
    assert said <= set(numbers)


@pytest.mark.parametrize("name", [*FIGURES, "about", "easy", "hard"])
@pytest.mark.parametrize("profile", ["embedded", "smoke"])
def test_every_caption_becomes_latex_without_a_sign_that_stops_it(name, profile):
    text = (ROOT / f"workflow/report/{name}.rst").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    options = {key: config[key] for key in FIGURES[name].options} if name in FIGURES else {}
    settings = ["smollm2-135m/ioi", "gemma-3-270m/greater_than"]
    stated = {"profile": profile, "effort": "quick", "settings": settings, "options": options}
    found = latex_of(text, stated)
    check_signs(name, found)
    assert r"\DU" not in found
    assert "{{" not in found
    caption = caption_of_figure(found)
    assert "\n" not in caption
    assert not caption.startswith("Figure")


def test_signs_stay_signs():
    """docutils has commands for some of them, which print something else or need more fonts."""
    text = "f″(0) and f′ of δ², ±½ · 3 × 10⁻⁴ ‖δ‖"
    assert latex_of(text, {}) == text


def test_the_lists_of_checks_are_of_one_study():
    """What the text counts in all_checks.csv is what the table lists of inconsistencies.csv."""
    counted = check_numbers(pd.read_csv(ROOT / "data/published/all_checks.csv"))
    listed = pd.read_csv(
        ROOT / "data/published/inconsistencies.csv", dtype=str, keep_default_na=False
    )
    n = int(counted["NumContradictions"]) + int(counted["NumMismatches"])
    assert len(contradictions(listed)) == n > 20


def test_every_published_text_has_signs_that_latex_prints():
    for path in (ROOT / "data/published").glob("*.csv"):
        check_signs(path.name, path.read_text(encoding="utf-8"))
    with pytest.raises(ReportError, match=r"x: LaTeX prints no 'ж' \(U\+0436\)"):
        check_signs("x", "a ж")
    assert not set(SIGNS) & KNOWN


def test_artefacts_without_a_number_have_letters():
    names = ["table1", "table12", "frontier", "table18", "floors"]
    assert list(numbered(names).values()) == ["1", "12", "A", "18", "B"]


def test_what_the_paper_says_of_a_figure_stands_beside_it():
    frame = pd.read_csv(ROOT / "data/published/figures.csv", dtype=str, keep_default_na=False)
    said = published_values(frame, "figure2")
    assert any("750 pct" in text for text in said)
    assert published_values(frame, "figure1") == []  # none: a drawing
    assert published_values(frame, "frontier") == []


def test_packages_are_those_that_the_fragments_name():
    first = "% a\n% needs \\usepackage{booktabs,xcolor}\nx"
    fragments = [first, "% needs \\usepackage{xcolor,array}"]
    assert needed_packages(fragments) == ["booktabs", "xcolor", "array"]


WIDE = " & ".join(["a long heading of a column"] * 12)
TABLE = rf"""% needs \usepackage{{booktabs,xcolor}}
\begin{{table}}[t]
\centering\small
\caption{{A table that is wider than the page.}}
\label{{tab:wide}}
\begin{{tabular}}{{{"l" * 12}}}
\toprule
{WIDE} \\
\bottomrule
\end{{tabular}}
\par\medskip
\begin{{tabular}}{{ll}}
{"a & b " + chr(92) * 2} {("x & y " + chr(92) * 2) * 120}
\end{{tabular}}
\end{{table}}
"""
LEDGER = r"""% needs \usepackage{booktabs,longtable,array,xcolor}
\begin{longtable}{ll}
\caption{Every claim.}\label{tab:claims}\\
a & b \\
\end{longtable}
"""


@pytest.fixture
def folder(tmp_path, numbers):
    """A working directory with a wide and tall table, a figure, a ledger and the numbers."""
    import matplotlib

    matplotlib.use("pdf")
    from matplotlib.figure import Figure

    for name in ("tables", "figures", "results", "paper"):
        (tmp_path / name).mkdir()
    (tmp_path / "tables/table2.tex").write_text(TABLE)
    (tmp_path / "tables/claims.tex").write_text(LEDGER)
    (tmp_path / "results/numbers.tex").write_text(macros(numbers, ""))
    Figure(figsize=(9, 2)).savefig(tmp_path / "figures/figure3.pdf")
    return tmp_path


def caption_of(name):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    options = {key: config[key] for key in FIGURES[name].options}
    settings = ["smollm2-135m/ioi", "gemma-3-270m/greater_than"]
    stated = {"profile": "smoke", "effort": "quick", "settings": settings, "options": options}
    text = (ROOT / f"workflow/report/{name}.rst").read_text(encoding="utf-8")
    return caption_of_figure(latex_of(text, stated))


def source(folder, **changes):
    """The paper of `folder` as LaTeX."""
    published = pd.read_csv(
        ROOT / "data/published/inconsistencies.csv", dtype=str, keep_default_na=False
    )
    made_with = {"profile": "smoke", "effort": "quick"}
    texts = {
        name: latex_of((ROOT / f"workflow/report/{name}.rst").read_text(), made_with)
        for name in ("about", "easy", "hard")
    }
    parts = {
        "numbers": "../results/numbers.tex",
        "tables": [Exhibit("table2", "2", "../tables/table2.tex")],
        "figures": [
            # every caption that there is, beside one drawing
            Exhibit(name, number, "../figures/figure3.pdf", caption_of(name), ["750 pct"])
            for name, number in numbered(list(FIGURES)).items()
        ],
        "ledger": "../tables/claims.tex",
        "contradictions": contradictions(published),
        "texts": texts,
        "profile": "smoke",
        "packages": needed_packages([TABLE, LEDGER]),
    }
    return render(Article(**(parts | changes)), TEMPLATES)


needs_latex = pytest.mark.skipif(
    not all(map(shutil.which, ("latexmk", "pdflatex"))), reason="LaTeX is not installed"
)


@needs_latex
def test_the_paper_compiles_with_nothing_beyond_the_page_and_always_to_the_same_file(folder):
    tex, pdf = folder / "paper/replication.tex", folder / "paper/replication.pdf"
    tex.write_text(source(folder), encoding="utf-8")
    printed = typeset(tex, pdf)
    first = pdf.read_bytes()
    assert first.startswith(b"%PDF")
    assert [points for points in overfull(printed) if points > 1] == []
    assert "undefined" not in printed.rpartition("This is pdfTeX")[2].lower()
    assert "Font shape" not in printed.rpartition("This is pdfTeX")[2]
    assert sorted(path.name for path in tex.parent.iterdir()) == [pdf.name, tex.name]
    typeset(tex, pdf)
    assert pdf.read_bytes() == first


@needs_latex
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"\usepackage{amsmath", r"\usepackage{nothing,amsmath", "LaTeX lacks nothing.sty: "),
        (r"\NumClaims{} quant", r"\NumWishes{} quant", "LaTeX stopped: Undefined control sequence"),
        ("../tables/table2.tex", "../tables/table3.tex", "LaTeX finds no ../tables/table3.tex"),
    ],
)
def test_what_stops_latex_is_one_line_and_no_pdf(folder, old, new, message):
    tex, pdf = folder / "paper/replication.tex", folder / "paper/replication.pdf"
    text = source(folder)
    assert old in text
    tex.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ReportError) as refusal:
        typeset(tex, pdf)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not pdf.exists()


def test_where_latex_is_missing_the_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReportError, match="latexmk and pdflatex not found: apt-get install"):
        typeset(tmp_path / "a.tex", tmp_path / "a.pdf")


def test_reasons_are_found_in_what_latex_prints():
    assert reason("x\n! LaTeX Error: File `booktabs.sty' not found.\n").startswith(
        "LaTeX lacks booktabs.sty: apt-get install"
    )
    assert reason("./a.tex:3: Missing $ inserted.\n") == "LaTeX stopped: Missing $ inserted."
    assert reason("nothing") == "LaTeX made no PDF"


def test_a_sign_that_latex_does_not_print_is_named(folder):
    with pytest.raises(ReportError, match="prints no 'ж'"):
        source(folder, texts={"about": "ж", "easy": "", "hard": ""})
