import pandas as pd
import pytest

from hvp_patching.reporting.files import ReportError
from hvp_patching.reporting.published import load_published
from hvp_patching.reporting.table1 import table1_frame, table1_tex, write_table1

SMOL = {
    "model": "smollm2-135m",
    "n_layers": 30,
    "n_heads": 9,
    "n_key_value_heads": 3,
    "d_model": 576,
    "d_mlp": 1536,
    "activation": "SwiGLU",
    "n_params": 134515008,
    "licence": "Apache-2.0",
}
GPT2 = {
    "model": "gpt2-small",
    "n_layers": 12,
    "n_heads": 12,
    "n_key_value_heads": 12,
    "d_model": 768,
    "d_mlp": 3000,
    "activation": "GeLU",
    "n_params": 124439808,
    "licence": "MIT & more",
}


@pytest.fixture
def frame(published):
    return table1_frame([SMOL, GPT2], load_published(published, 1)).set_index("model", drop=False)


def test_published_row_beside_ours_where_the_model_is_the_papers(frame):
    assert frame.loc["gpt2-small", "published_paper_label"] == "GPT-2 Small"
    assert frame.loc["gpt2-small", "published_d_mlp"] == 3072
    assert frame.loc["gpt2-small", "differs"] == "d_mlp"
    assert pd.isna(frame.loc["smollm2-135m", "published_n_layers"])
    assert pd.isna(frame.loc["smollm2-135m", "differs"])


def test_tex_golden_rows(frame, provenance):
    found = table1_tex(frame, provenance).splitlines()
    assert (
        r"smollm2-135m & 30 & 9 & 3 & 576 & 1536 & SwiGLU & 134{,}515{,}008 & Apache-2.0 \\"
    ) in found
    paper = found[next(i for i, line in enumerate(found) if line.startswith("gpt2-small")) + 1]
    assert paper.startswith(r"{\scriptsize\textcolor{gray}{paper: GPT-2 Small}} & ")
    assert r"\textcolor{gray}{3072}" in paper
    assert r"gpt2-small: the paper differs in d\_mlp.\par" in found
    assert r"MIT \& more" in "".join(found)
    assert found[0].startswith("% profile")


def test_equal_model_does_not_differ(published):
    frame = table1_frame([GPT2 | {"d_mlp": 3072}], load_published(published, 1))
    assert frame.loc[0, "differs"] == ""


def test_missing_key_or_model_is_named(published):
    paper = load_published(published, 1)
    lacking = {key: value for key, value in SMOL.items() if key not in ("d_mlp", "licence")}
    with pytest.raises(ReportError, match="smollm2-135m: Table 1 needs d_mlp, licence"):
        table1_frame([lacking], paper)
    with pytest.raises(ReportError, match="no models"):
        table1_frame([], paper)


def test_written_csv_reads_back(frame, provenance, tmp_path):
    write_table1(frame, provenance, tmp_path / "table1.tex", tmp_path / "table1.csv")
    back = pd.read_csv(tmp_path / "table1.csv", comment="#")
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=False)
    assert (tmp_path / "table1.tex").read_text() == table1_tex(frame, provenance)


def test_compiles(frame, provenance, compiles):
    compiles(table1_tex(frame, provenance))
