import pytest

from hvp_patching.reporting.latex import Block, Tex, bold, booktabs, cell, escape, grey


def test_escaping_golden():
    assert escape(r"50% of A_1 & #2 {x} ~ ^ $ \ <>|") == (
        r"50\% of A\_1 \& \#2 \{x\} \textasciitilde{} \textasciicircum{} \$ \textbackslash{} "
        r"\textless{}\textgreater{}\textbar{}"
    )


def test_tex_is_not_escaped_again():
    assert escape(escape("a_b")) == r"a\_b"
    assert bold(Tex(r"$\rho$")) == r"\textbf{$\rho$}"
    assert bold("5%") == r"\textbf{5\%}"
    assert grey("a_b") == r"{\scriptsize\textcolor{gray}{a\_b}}"


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (float("nan"), ""), (3, "3"), (2.5, "2.5"), ("a_b", r"a\_b")]
)
def test_cells(value, text):
    assert cell(value) == text


def test_table_golden():
    table = booktabs(
        [["Model", Tex("$n$")]],
        [Block("first"), ["a_b", 1], Block("second"), ["c", None]],
        align="l@{ }p{3cm}",
        caption="Errors in %",
        label="tab:x",
        notes=["A & B."],
    )
    assert table == (
        "% needs \\usepackage{booktabs,xcolor}\n"
        "\\begin{table}[t]\n"
        "\\centering\\small\\setlength{\\tabcolsep}{5pt}"
        "\\setlength{\\belowcaptionskip}{4pt}\n"
        "\\caption{Errors in \\%}\n"
        "\\label{tab:x}\n"
        "\\begin{tabular}{l@{ }p{3cm}}\n"
        "\\toprule\n"
        "Model & $n$ \\\\\n"
        "\\midrule\n"
        "\\multicolumn{2}{l}{\\textit{first}} \\\\\n"
        "a\\_b & 1 \\\\\n"
        "\\midrule\n"
        "\\multicolumn{2}{l}{\\textit{second}} \\\\\n"
        "c &  \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\par\\smallskip\n"
        "\\begin{minipage}{\\linewidth}\\footnotesize\\raggedright\n"
        "A \\& B.\\par\n"
        "\\end{minipage}\n"
        "\\end{table}\n"
    )


def test_row_of_wrong_length_is_refused():
    with pytest.raises(ValueError, match="3 cells for 2 columns"):
        booktabs([["a", "b"]], [[1, 2, 3]], align="ll", caption="", label="t")


def test_every_escape_compiles(compiles):
    text = " ".join(chr(code) for code in range(33, 127))
    rows = [[text[start : start + 40]] for start in range(0, len(text), 40)]
    compiles(booktabs([["Text"]], rows, align="l", caption=text, label="t", notes=[text]))
