import pandas as pd
import pytest

from hvp_patching.metrics.resampling import reduction_interval
from hvp_patching.reporting.component_errors import read_errors
from hvp_patching.reporting.files import ReportError
from hvp_patching.reporting.published import load_published
from hvp_patching.reporting.settings_notes import Setting, parse_setting
from hvp_patching.reporting.table11 import COLUMNS, table11_frame, table11_tex, write

AP = [0.1, 0.2, 0.4, 0.3, 0.25, 0.2]
HVP = [0.01, 0.04, 0.05, 0.02, 0.05, 0.02]
PARAMS = {"profile": "embedded", "effort": "quick", "direction": "noising", "seed": 0}


def errors(methods):
    return pd.DataFrame(
        [
            {
                "prompt_id": f"p{number}",
                "estimator": estimator,
                "cost": 1,
                "n_components": 300,
                "n_nontrivial": 250 + number,
                "median_relative_error": value,
            }
            for estimator, values in methods.items()
            for number, value in enumerate(values)
        ]
    )


@pytest.fixture
def files(tmp_path):
    """Two models' heads with all four methods, and one model's residual stream without AtP*."""
    heads = {"ap": AP, "hvp": HVP, "gim": [0.5] * 6, "atp_star": [0.15] * 6}
    stream = {"ap": AP, "hvp": [1.5] * 6, "gim": [12.345] * 6}
    paths = []
    for number, methods in enumerate((heads, heads, stream)):
        paths.append(str(tmp_path / f"{number}.parquet"))
        errors(methods).to_parquet(paths[-1])
    return paths


SITES = ["attn_heads", "attn_heads", "resid_post"]


def made(files, published, settings):
    table = read_errors(files, [parse_setting(name) for name in settings], SITES)
    return table11_frame(table, load_published(published, 11), n_resamples=300, seed=1)


EMBEDDED = ["smollm2-135m/factual", "gemma-3-270m/factual", "smollm2-135m/factual"]


def test_errors_reduction_and_records(files, published):
    frame = made(files, published, EMBEDDED)
    assert tuple(frame.columns) == COLUMNS
    first, _, stream = (frame.iloc[i] for i in range(3))
    assert (first["model"], first["site"]) == ("smollm2-135m", "attn_heads")
    assert (first["n_prompts"], first["n_records"]) == (6, 1515)
    assert first["ap_error_pct"] == pytest.approx(22.5)
    assert first["hvp_error_pct"] == pytest.approx(3)
    assert first["reduction_pct"] == pytest.approx(100 * (1 - 0.03 / 0.225))
    low, high = reduction_interval(HVP, AP, statistic="median", n_resamples=300, seed=1)
    assert first["reduction_ci_low_pct"] == pytest.approx(100 * low)
    assert first["reduction_ci_high_pct"] == pytest.approx(100 * high)
    assert low < high
    assert (first["gim_error_pct"], first["atp_star_error_pct"]) == pytest.approx((50, 15))
    assert stream["reduction_pct"] == pytest.approx(100 * (1 - 1.5 / 0.225))
    assert pd.isna(stream["atp_star_error_pct"])


def test_published_cells_only_for_the_papers_settings(files, published):
    columns = [column for column in COLUMNS if column.startswith("published")]
    assert made(files, published, EMBEDDED)[columns].isna().all(axis=None)
    names = ["pythia-410m/factual", "qwen2.5-1.5b/factual", "pythia-410m/factual/zero"]
    frame = made(files, published, names)
    assert frame.loc[0, "published_n_records"] == 20993
    assert frame.loc[0, "published_ap_error_pct"] == 4.1
    assert pd.isna(frame.loc[0, "published_ap_error_ci_low_pct"])
    assert frame.loc[1, "published_reduction_ci_high_pct"] == 91.8
    assert frame.loc[2, columns].isna().all()
    frame = made(files, published, ["a/b", "pythia-410m/ioi", "pythia-410m/factual"])
    assert frame.loc[:1, columns].isna().all(axis=None)
    assert frame.loc[2, "published_hvp_error_ci_low_pct"] == 10.4


def test_tex_golden_rows(files, published, provenance):
    frame = made(files, published, EMBEDDED)
    paper = list(load_published(published, 11)["model"])
    found = table11_tex(frame, provenance, paper).splitlines()
    assert r"\cmidrule(lr){4-7}" in found
    assert r"Model & $n$ & Records & AP & Std HVP & GIM & AtP* & Reduction \\" in found
    ours = next(line for line in found if line.startswith("SmolLM2-135M & 6 & 1{,}515 & 22.5~"))
    assert "& 3.00~" in ours
    assert "& 50.0 & 15.0 & 86.7~" in ours
    stream = next(line for line in found if "1{,}234" in line)
    assert "& 1{,}234 & -- & $-$567" in stream
    titles = [line.split("textit")[1] for line in found if "textit" in line]
    assert titles == [r"{Attention heads}} \\", r"{Residual stream}} \\"]
    text = "\n".join(found)
    assert "bootstrap intervals): Factual. SmolLM2-135M and Gemma-3-270M stand in for" in text
    assert "Gated MLPs" not in text  # no neurons shown
    assert "Neurons" not in text
    assert "gray" not in text
    assert "Few prompts" not in text


def test_tasks_and_corruptions_are_named_where_they_differ(files, published, provenance):
    names = ["gpt2-small/factual", "gpt2-small/ioi", "gpt2-small/factual/resample"]
    text = table11_tex(made(files, published, names), provenance, ["gpt2-small"])
    assert "Model, task (corruption) & " in text
    assert "GPT-2 small, IOI & " in text
    assert "GPT-2 small, Factual (resample) & " in text
    assert r"\textcolor{gray}{5{,}760}" in text
    assert "{1.3 [0.9, 1.7]}" in text
    assert "stand" not in text.split("label")[0]


def test_neurons_of_gated_models_are_explained(files, published, provenance):
    settings = [Setting("gpt2-small", "ioi"), Setting("gemma-3-270m", "ioi"), Setting("own", "ioi")]
    table = read_errors(files, settings, ["mlp_pre"] * 3)
    frame = table11_frame(table, load_published(published, 11), n_resamples=50)
    assert "Gated MLPs (Gemma-3-270M): a pre-act" in table11_tex(frame, provenance, [])


def test_a_site_without_effects_keeps_its_row(tmp_path, published, provenance):
    path = str(tmp_path / "errors.parquet")
    silent = errors({"ap": [float("nan")] * 2, "hvp": [float("nan")] * 2})
    silent.assign(n_nontrivial=0).to_parquet(path)
    table = read_errors([path], [Setting("m", "t")], ["mlp_out"])
    frame = table11_frame(table, load_published(published, 11))
    assert r"m & 2 & 0 & -- & -- & -- & -- & -- \\" in table11_tex(frame, provenance, [])


def test_an_exact_ap_has_no_reduction(tmp_path, published):
    path = str(tmp_path / "errors.parquet")
    errors({"ap": [0.0, 0.1], "hvp": [0.0, 0.1]}).to_parquet(path)
    table = read_errors([path], [Setting("m", "t")], ["mlp_out"])
    assert pd.isna(table11_frame(table, load_published(published, 11)).loc[0, "reduction_pct"])


def test_settings_are_read(files):
    assert parse_setting("m/t/zero") == Setting("m", "t", "zero")
    for bad in ("m", "m/", "m/t/c/x"):
        with pytest.raises(ReportError, match="is no setting"):
            parse_setting(bad)


def test_written_files_read_back_and_compile(files, published, provenance, tmp_path, compiles):
    tex, csv = tmp_path / "table11.tex", tmp_path / "table11.csv"
    names = ["pythia-410m/factual", "qwen2.5-1.5b/factual/resample", "my_model/my_task"]
    params = PARAMS | {"settings": names, "sites": SITES, "resamples": 300, "seed": 1}
    paper = load_published(published, 11)
    write({"errors": files}, params, provenance, paper, str(tex), str(csv))
    numbers = list(COLUMNS[4:])
    back = pd.read_csv(csv, comment="#").astype(dict.fromkeys(numbers, "float64"))
    frame = made(files, published, names)
    pd.testing.assert_frame_equal(back[numbers], frame[numbers])
    assert r"my\_model, my\_task" in tex.read_text()
    compiles(tex.read_text())
