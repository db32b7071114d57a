import pandas as pd
import pytest

from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.summary import medians
from hvp_patching.reporting.latex import Span, booktabs
from hvp_patching.reporting.names import PUBLISHED_COMPONENTS
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table3 import TABLE
from hvp_patching.sites import SITES

ONE_PASS = ["gim_0_1_4", "relp", "ig_inputs_5", "clean_corrupted", "second_order_share"]
HEADS = {
    "ap": (1, [0.1, 0.2, 0.4]),
    "hvp": (2, [0.01, 0.02, 0.05]),
    "gim": (1, [0.3, 0.4, 0.5]),
    "atp_star": (30, [0.08, 0.1, 0.2]),
    "atp_star_qkv": (30, [0.1, 0.1, 0.1]),
    "ms_hvp_5": (10, [0.001, 0.001, 0.001]),
}
NEURONS = {"ap": (1, [0.5, 0.6, 0.7]), "hvp": (2, [0.3, 0.3, 0.3])}


def errors(methods, nontrivial=(9, 10, 8), n_components=10):
    return pd.DataFrame(
        [
            {
                "prompt_id": f"p{number}",
                "estimator": estimator,
                "cost": cost,
                "n_components": n_components,
                "n_nontrivial": nontrivial[number],
                "top_k_relative_error": 0.5,
                "median_relative_error": value if nontrivial[number] else float("nan"),
            }
            for estimator, (cost, values) in methods.items()
            for number, value in enumerate(values)
        ]
    )


BOTH = {"attn_heads": errors(HEADS), "mlp_pre": errors(NEURONS)}  # neurons: no AtP*, no GIM


@pytest.fixture
def made(show, each):
    def make(model="smollm2-135m", corruption="", task="factual", tables=BOTH, **options):
        own = {"model": model, "task": task, "corruption": corruption}
        table = pd.concat([part.assign(**own, site=site) for site, part in tables.items()])
        chosen = {"baselines": ["gim", *ONE_PASS], **options}
        return show("table3", None, chosen, medians=each(table, medians, n_resamples=200))

    return make


def row(frame, site, method):
    found = frame[(frame["site"] == site) & (frame["method"] == method)]
    assert len(found) == 1
    return found.iloc[0]


def test_every_site_has_a_name():
    assert list(PUBLISHED_COMPONENTS) == list(SITES)


def test_errors_are_medians_of_prompts_and_reductions_are_against_ap(made):
    frame = made().frame
    assert list(frame.columns) == TABLE.columns.split()
    methods = ["ap", "atp_star", "atp_star_qkv", "gim", *ONE_PASS, "hvp", "activation_patching"]
    assert list(frame["method"]) == methods * 2
    hvp = row(frame, "attn_heads", "hvp")
    assert (hvp["error_pct"], hvp["reduction_pct"]) == pytest.approx((2, 90))
    assert (hvp["cost"], hvp["n_prompts"]) == (2, 3)
    assert (hvp["n_nontrivial"], hvp["n_components"]) == (27, 30)
    assert 1 <= hvp["ci_low"] <= 2 <= hvp["ci_high"] <= 5
    assert row(frame, "attn_heads", "gim")["reduction_pct"] == pytest.approx(-100)
    assert row(frame, "attn_heads", "atp_star_qkv")["reduction_pct"] == pytest.approx(50)
    assert row(frame, "mlp_pre", "hvp")["reduction_pct"] == pytest.approx(50)
    assert pd.isna(row(frame, "attn_heads", "ap")["reduction_pct"])


def test_activation_patching_is_exact_and_absent_methods_are_empty(made):
    frame = made().frame
    truth = row(frame, "mlp_pre", "activation_patching")
    assert (truth["error_pct"], truth["reduction_pct"], truth["cost"]) == (0, 100, 0)
    missing = frame[(frame["site"] == "mlp_pre") & frame["error_pct"].isna()]
    assert list(missing["method"]) == ["atp_star", "atp_star_qkv", "gim", *ONE_PASS]
    assert missing[["cost", "ci_low", "reduction_pct"]].isna().all(axis=None)


def test_published_cells_only_for_the_papers_model_task_and_corruption(made):
    columns = [column for column in TABLE.columns.split() if column.startswith("published")]
    assert made().frame[columns].isna().all(axis=None)
    assert made("pythia-410m", "resample").frame[columns].isna().all(axis=None)
    frame = made("pythia-410m").frame
    assert list(row(frame, "attn_heads", "hvp")[columns]) == [1.0, 0.7, 1.3, 77.4]
    assert list(row(frame, "mlp_pre", "atp_star")[columns]) == [33.8, 29.8, 37.8, 4.0]
    assert row(frame, "mlp_pre", "activation_patching")["published_reduction_pct"] == 100


def test_tex_golden_rows(made, provenance):
    found = TABLE.tex(made(), provenance).splitlines()
    assert found[0] == "% profile: embedded; effort: quick"
    names = next(i for i, line in enumerate(found) if "Attention heads" in line)
    assert r"\multicolumn{2}{@{}c@{\hskip 8pt}}{Pre-act neurons}" in found[names]
    assert found[names + 1] == r"\cmidrule(r){2-3}\cmidrule(r){4-5}"
    assert found[names + 2] == r"Method & Error & Red. & Error & Red. & Cost \\"
    assert r"Std HVP & \textbf{2.00} & 90.0 & \textbf{30.0} & 50.0 & 2 \\" in found
    assert r"GIM & 40.0 & $-$100 & -- &  & 1 \\" in found
    assert r"AtP* (q, k, v) & 10.0 & 50.0 & -- &  & 30 \\" in found
    assert r"Act. patching & 0 & 100 & 0 & 100 & 0 \\" in found
    assert not any("gray" in line for line in found)
    caption = next(line for line in found if line.startswith(r"\caption"))
    assert "SmolLM2-135M stands in for the paper's Pythia-410M." in caption
    text = "\n".join(found)
    assert "Attention heads 27 of 30; Pre-act neurons 27 of 30" in text
    assert "Neurons: a seeded sample" in text
    assert "Gated MLPs (SmolLM2-135M)" in text
    assert "Few prompts (as few as $n = 3$)" in text


def test_tex_has_the_papers_lines_below_ours(made, provenance):
    found = TABLE.tex(made("pythia-410m"), provenance).splitlines()
    ours = next(i for i, line in enumerate(found) if line.startswith("Std HVP"))
    assert r"\scriptsize [" in found[ours + 1]
    assert found[ours + 2].count("gray") == 5  # the word paper, two errors, two reductions
    assert "{1.0}" in found[ours + 2]
    assert "{77.4}" in found[ours + 2]
    assert "{[0.7, 1.3]}" in found[ours + 3]
    text = "\n".join(found)
    assert "stands in" not in text
    assert "Gated MLPs" not in text
    assert "Grey: the paper's value" in text


def test_prompts_without_effects_are_left_out(made, provenance):
    frame = made(tables={"mlp_post": errors(NEURONS, nontrivial=(9, 0, 8))}).frame
    assert row(frame, "mlp_post", "ap")["error_pct"] == pytest.approx(60)
    assert row(frame, "mlp_post", "ap")["n_prompts"] == 2
    shown = made(tables={"mlp_post": errors(NEURONS, nontrivial=(0, 0, 0))})
    assert pd.isna(row(shown.frame, "mlp_post", "ap")["error_pct"])
    assert r"Std HVP & -- &  & -- \\" in TABLE.tex(shown, provenance)


def test_a_single_prompt_has_no_interval(made, provenance):
    shown = made(tables={"attn_heads": errors(HEADS)[lambda frame: frame["prompt_id"] == "p0"]})
    assert pd.isna(row(shown.frame, "attn_heads", "hvp")["ci_low"])
    assert r"\scriptsize [" not in TABLE.tex(shown, provenance)


def test_bad_inputs_are_named(made):
    with pytest.raises(ReportError, match="no table row for the site 'moon'"):
        made(tables={"moon": errors(HEADS)})
    with pytest.raises(ScoresError, match="no errors of 'ap'"):
        made(tables={"mlp_pre": errors({"hvp": HEADS["hvp"]})})


def test_spans_count_as_their_columns():
    with pytest.raises(ValueError, match="3 cells for 2 columns"):
        booktabs([[Span("a", 2), "b"]], [], align="ll", caption="", label="t")


def test_written_files_read_back(made, written, tmp_path):
    paths = []
    for site, table in BOTH.items():
        paths.append(tmp_path / site)
        medians(table, n_resamples=200).to_parquet(paths[-1])
    inputs, names = {"medians": paths}, ["pythia-410m/factual"] * 2
    back, text = written("table3", inputs, names, list(BOTH))
    frame = made("pythia-410m", baselines=["gim"]).frame
    numbers = list(TABLE.columns.split()[5:])
    pd.testing.assert_frame_equal(back[numbers], frame[numbers], check_dtype=False)
    assert "Factual" in text
    with pytest.raises(ValueError, match="Table 3 shows one model and task, got a/b, c/d"):
        written("table3", inputs, ["a/b", "c/d"], list(BOTH))


def test_it_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made("pythia-410m"), provenance))


def wide():
    large = {name: (cost, [1.3334, 12.3334, 14.3334]) for name, (cost, _) in HEADS.items()}
    return dict.fromkeys(SITES, errors(large, n_components=1000))


def test_names_are_escaped_and_the_base_run_is_named(made, provenance):
    shown = made("my_model", task="my_task", tables=wide(), direction="denoising")
    text = TABLE.tex(shown, provenance)
    assert r"my\_model, my\_task" in text
    assert "the corrupted run" in text


def test_five_component_types_with_wide_numbers_compile(made, provenance, compiles):
    compiles(TABLE.tex(made("my_model", task="my_task", tables=wide()), provenance))
