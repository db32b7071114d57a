import json

import pandas as pd
import pytest

from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table1 import TABLE

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
def made(show):
    return lambda *models: show("table1", model=pd.DataFrame(models))


@pytest.fixture
def frame(made):
    return made(SMOL, GPT2).frame.set_index("model", drop=False)


def test_published_row_beside_ours_where_the_model_is_the_papers(frame):
    assert frame.loc["gpt2-small", "published_paper_label"] == "GPT-2 Small"
    assert frame.loc["gpt2-small", "published_d_mlp"] == 3072
    assert frame.loc["gpt2-small", "differs"] == "d_mlp"
    assert pd.isna(frame.loc["smollm2-135m", "published_n_layers"])
    assert pd.isna(frame.loc["smollm2-135m", "differs"])


def test_tex_golden_rows(made, provenance):
    found = TABLE.tex(made(SMOL, GPT2), provenance).splitlines()
    assert (
        r"smollm2-135m & 30 & 9 & 3 & 576 & 1536 & SwiGLU & 134{,}515{,}008 & Apache-2.0 \\"
    ) in found
    paper = found[next(i for i, line in enumerate(found) if line.startswith("gpt2-small")) + 1]
    assert paper.startswith(r"{\scriptsize\textcolor{gray}{paper: GPT-2 Small}} & ")
    assert r"\textcolor{gray}{3072}" in paper
    assert r"gpt2-small: the paper differs in d\_mlp.\par" in found
    assert r"MIT \& more" in "".join(found)
    assert found[0].startswith("% profile")


def test_equal_model_does_not_differ(made):
    assert made(GPT2 | {"d_mlp": 3072}).frame.loc[0, "differs"] == ""


def test_missing_key_or_model_is_named(made):
    lacking = {key: value for key, value in SMOL.items() if key not in ("d_mlp", "licence")}
    with pytest.raises(ReportError, match="smollm2-135m: Table 1 needs d_mlp, licence"):
        made(lacking)
    with pytest.raises(ReportError, match="Table 1 has nothing to show"):
        made()


def test_written_csv_reads_back(written, frame, tmp_path):
    paths = []
    for model in (SMOL, GPT2):
        paths.append(tmp_path / f"{model['model']}.json")
        paths[-1].write_text(json.dumps(model))
    back, text = written("table1", {"model": paths}, [])
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=False)
    assert "the paper differs in" in text


def test_a_models_notice_stands_below_the_table(made, provenance):
    shown = made(SMOL | {"notice": "is an Instruct model, and not the paper's"}, GPT2)
    found = TABLE.tex(shown, provenance)
    assert r"smollm2-135m is an Instruct model, and not the paper's.\par" in found
    assert "gpt2-small is" not in found


def test_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made(SMOL, GPT2), provenance))
