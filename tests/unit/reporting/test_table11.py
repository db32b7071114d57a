import pandas as pd
import pytest

from hvp_patching.metrics.resampling import reduction_interval
from hvp_patching.metrics.summary import medians
from hvp_patching.reporting.tables.table11 import TABLE
from hvp_patching.settings import KEY, Setting

AP = [0.1, 0.2, 0.4, 0.3, 0.25, 0.2]
HVP = [0.01, 0.04, 0.05, 0.02, 0.05, 0.02]


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


# two models' heads with all four methods, and one model's residual stream without AtP*
HEADS = errors({"ap": AP, "hvp": HVP, "gim": [0.5] * 6, "atp_star": [0.15] * 6})
STREAM = errors({"ap": AP, "hvp": [1.5] * 6, "gim": [12.345] * 6})
TABLES = (HEADS, HEADS, STREAM)
SITES = ["attn_heads", "attn_heads", "resid_post"]


@pytest.fixture
def made(show, each):
    def make(settings, tables=TABLES, sites=SITES):
        parts = [
            table.assign(**dict(zip(KEY, vars(Setting.parse(name)).values(), strict=True)), site=s)
            for name, table, s in zip(settings, tables, sites, strict=True)
        ]
        table = pd.concat(parts)
        return show("table11", medians=each(table, medians, n_resamples=300, seed=1))

    return make


EMBEDDED = ["smollm2-135m/factual", "gemma-3-270m/factual", "smollm2-135m/factual"]


def test_errors_reduction_and_records(made):
    frame = made(EMBEDDED).frame
    assert list(frame.columns) == TABLE.columns.split()
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


def test_published_cells_only_for_the_papers_settings(made):
    columns = [column for column in TABLE.columns.split() if column.startswith("published")]
    assert made(EMBEDDED).frame[columns].isna().all(axis=None)
    names = ["pythia-410m/factual", "qwen2.5-1.5b/factual", "pythia-410m/factual/zero"]
    frame = made(names).frame
    assert frame.loc[0, "published_n_records"] == 20993
    assert frame.loc[0, "published_ap_error_pct"] == 4.1
    assert pd.isna(frame.loc[0, "published_ap_error_ci_low_pct"])
    assert frame.loc[1, "published_reduction_ci_high_pct"] == 91.8
    assert frame.loc[2, columns].isna().all()
    frame = made(["a/b", "pythia-410m/ioi", "pythia-410m/factual"]).frame
    assert frame.loc[:1, columns].isna().all(axis=None)
    assert frame.loc[2, "published_hvp_error_ci_low_pct"] == 10.4


def test_tex_golden_rows(made, provenance):
    found = TABLE.tex(made(EMBEDDED), provenance).splitlines()
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


def test_tasks_and_corruptions_are_named_where_they_differ(made, provenance):
    names = ["gpt2-small/factual", "gpt2-small/ioi", "gpt2-small/factual/resample"]
    text = TABLE.tex(made(names), provenance)
    assert "Model, task (corruption) & " in text
    assert "GPT-2 small, IOI & " in text
    assert "GPT-2 small, Factual (resample) & " in text
    assert r"\textcolor{gray}{5{,}760}" in text
    assert "{1.3 [0.9, 1.7]}" in text
    assert "stand" not in text.split("label")[0]


def test_neurons_of_gated_models_are_explained(made, provenance):
    names = ["gpt2-small/ioi", "gemma-3-270m/ioi", "own/ioi"]
    text = TABLE.tex(made(names, sites=["mlp_pre"] * 3), provenance)
    assert "Gated MLPs (Gemma-3-270M): a pre-act" in text


def test_a_site_without_effects_keeps_its_row(made, provenance):
    silent = errors({"ap": [float("nan")] * 2, "hvp": [float("nan")] * 2}).assign(n_nontrivial=0)
    text = TABLE.tex(made(["m/t"], [silent], ["mlp_out"]), provenance)
    assert r"m & 2 & 0 & -- & -- & -- & -- & -- \\" in text


def test_an_exact_ap_has_no_reduction(made):
    exact = errors({"ap": [0.0, 0.0], "hvp": [0.0, 0.1]})
    assert pd.isna(made(["m/t"], [exact], ["mlp_out"]).frame.loc[0, "reduction_pct"])
    half = errors({"ap": [0.0, 0.1], "hvp": [0.0, 0.1]})
    frame = made(["m/t"], [half], ["mlp_out"]).frame
    assert frame.loc[0, ["reduction_ci_low_pct", "reduction_ci_high_pct"]].isna().all()


NAMES = ["pythia-410m/factual", "qwen2.5-1.5b/factual/resample", "my_model/my_task"]


def test_written_files_read_back(made, written, tmp_path):
    paths = [tmp_path / str(number) for number in range(3)]
    for path, table in zip(paths, TABLES, strict=True):
        medians(table, n_resamples=300, seed=1).to_parquet(path)
    back, text = written("table11", {"medians": paths}, NAMES, SITES)
    numbers = list(TABLE.columns.split()[4:])
    frame = made(NAMES).frame
    pd.testing.assert_frame_equal(back[numbers].astype("float64"), frame[numbers].astype("float64"))
    assert r"my\_model, my\_task" in text


def test_it_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made(NAMES), provenance))
