import importlib

import pandas as pd
import pytest

from hvp_patching.reporting.table5 import NOTATION, table5_frame, table5_tex, write_table5

CODE = sorted({line.code for line in NOTATION if line.code})


@pytest.mark.parametrize("name", CODE)
def test_code_column_names_what_exists(name):
    module, attribute = name.rsplit(".", 1)
    assert hasattr(importlib.import_module(module), attribute)


def test_the_papers_symbols_are_all_there():
    assert len(NOTATION) == 19  # the paper's 18 lines, and q, which it uses without one
    assert len({line.symbol for line in NOTATION}) == len(NOTATION)
    assert all(line.meaning for line in NOTATION)


def test_tex_golden_rows(provenance):
    text = table5_tex(table5_frame(), provenance)
    assert (
        r"$\rho$ & \raggedright reliability score of attribution patching, "
        r"undefined where AP is zero & "
        r"$\rho = |\frac{1}{2} q| \,/\, |\mathrm{AP}|$ & "
        r"\footnotesize\ttfamily metrics.\allowbreak{}reliability.\allowbreak{}"
        r"reliability\_score \\"
    ) in text.splitlines()


def test_written_csv_reads_back(provenance, tmp_path):
    frame = table5_frame()
    write_table5(frame, provenance, tmp_path / "table5.tex", tmp_path / "table5.csv")
    back = pd.read_csv(tmp_path / "table5.csv", comment="#", keep_default_na=False)
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)
    assert (tmp_path / "table5.tex").read_text() == table5_tex(frame, provenance)


def test_compiles(provenance, compiles):
    compiles(table5_tex(table5_frame(), provenance))
