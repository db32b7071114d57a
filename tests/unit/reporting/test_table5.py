import importlib

import pandas as pd
import pytest

from hvp_patching.reporting.tables.table5 import NOTATION, TABLE

CODE = sorted({line.code for line in NOTATION if line.code})


@pytest.mark.parametrize("name", CODE)
def test_code_column_names_what_exists(name):
    module, attribute = name.rsplit(".", 1)
    assert hasattr(importlib.import_module(module), attribute)


def test_the_papers_symbols_are_all_there():
    assert len(NOTATION) == 19  # the paper's 18 lines, and q, which it uses without one
    assert len({line.symbol for line in NOTATION}) == len(NOTATION)
    assert all(line.meaning for line in NOTATION)


def test_what_the_theory_computes_has_its_function():
    code = {
        line.symbol: line.code.removeprefix("hvp_patching.metrics.theory.") for line in NOTATION
    }
    assert code["R_3"] == "remainder"
    assert code[r"\eta"] == "higher_order_slack"
    assert code[r"F_\tau,\ U_\tau"] == "uncorrected"
    assert code["S_U"] == code[r"\kappa_U"] == "selective_gap"
    # the constant itself is a supremum over the path, which nothing computes
    assert [symbol for symbol, name in code.items() if not name] == ["L"]


def test_tex_golden_rows(show, provenance):
    text = TABLE.tex(show("table5"), provenance)
    assert (
        r"$\rho$ & \raggedright reliability score of attribution patching, "
        r"undefined where AP is zero & "
        r"$\rho = |\frac{1}{2} q| \,/\, |\mathrm{AP}|$ & "
        r"\footnotesize\ttfamily metrics.\allowbreak{}reliability.\allowbreak{}"
        r"reliability\_score \\"
    ) in text.splitlines()


def test_written_csv_reads_back(written, show):
    back, text = written("table5", {}, [])
    pd.testing.assert_frame_equal(back.fillna(""), show("table5").frame, check_dtype=False)
    assert "selective" in text


def test_compiles(show, provenance, compiles):
    compiles(TABLE.tex(show("table5"), provenance))
