import pandas as pd
import pytest

from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table6 import TABLE
from hvp_patching.settings import Setting

NAN = float("nan")
SUMMARY = {
    "lipschitz_hat": {"median": 0.0012345, "mean": 0.0345, "p90": 0.25, "max": 12.345},
    "lipschitz_scalar": {"median": 0.0006, "mean": 0.012, "p90": 0.1, "max": 3.0},
    "cubic_bound": {"median": 0.00011, "mean": 0.0035, "p90": 0.01, "max": 0.2},
    "actual_residual": {"median": 0.000018, "mean": 0.00092, "p90": 0.002, "max": 0.1},
    "bound_holds": {"count": 900, "n_nontrivial_records": 1078, "rate_pct": 83.4879},
    "bound_holds_scalar": {"count": 700, "n_nontrivial_records": 1078, "rate_pct": 64.93},
    "ratio_row": {"median": 6.25, "mean": float("inf"), "p10": 0.75},
    "sample": {
        "n_prompts": 4,
        "n_layers": 30,
        "n_heads_total": 270,
        "n_records": 1080,
        "n_nontrivial_records": 1078,
    },
}


@pytest.fixture
def summary():
    return pd.DataFrame(
        [
            {"quantity": quantity, "statistic": statistic, "value": float(value)}
            for quantity, values in SUMMARY.items()
            for statistic, value in values.items()
        ]
    )


def layer_frame(n):
    return pd.DataFrame(
        {
            "layer": range(n),
            "n": 36,
            "lipschitz_median": [0.001 * (layer + 1) for layer in range(n)],
            "lipschitz_scalar_median": 0.0005,
            "lipschitz_max": 0.5,
            "delta_norm_median": 2.0,
            "bound_holds_rate": [1 - 0.01 * layer for layer in range(n)],
        }
    )


@pytest.fixture
def made(show):
    def make(summary, model, n=30, table=6, corruption=""):
        own = {"model": model, "task": "factual", "corruption": corruption}
        layers = layer_frame(n).assign(**own)
        frames = {"lipschitz": summary.assign(**own), "lipschitz_layers": layers}
        return show(f"table{table}", [Setting(*own.values())], **frames)

    return make


def value(frame, quantity, statistic, column="value", layer=None):
    rows = frame[(frame["quantity"] == quantity) & (frame["statistic"] == statistic)]
    rows = rows[rows["layer"].isna() if layer is None else rows["layer"] == layer]
    assert len(rows) == 1
    return rows[column].iloc[0]


def test_frame_is_tidy_and_has_both_panels(summary, made):
    frame = made(summary, "smollm2-135m").frame
    assert list(frame.columns) == TABLE.columns.split()
    assert list(frame["panel"].unique()) == ["summary", "layers"]
    assert (frame["panel"] == "summary").sum() == len(summary)
    assert value(frame, "lipschitz_hat", "median") == 0.0012345
    assert value(frame, "lipschitz_hat", "median", layer=2) == pytest.approx(0.003)
    assert value(frame, "bound_holds", "rate_pct", layer=2) == pytest.approx(98)
    assert value(frame, "bound_holds", "n_nontrivial_records", layer=29) == 36
    assert value(frame, "delta_norm", "median", layer=0) == 2
    assert frame["published"].isna().all()


def test_published_values_only_for_the_papers_model(summary, made):
    frame = made(summary, "gpt2-small").frame
    assert value(frame, "lipschitz_hat", "max", "published") == 4.917
    assert value(frame, "bound_holds", "count", "published") == 2370
    assert pd.isna(value(frame, "cubic_bound", "p90", "published"))
    assert frame.loc[frame["panel"] == "layers", "published"].isna().all()
    frame = made(summary, "gemma-2-2b", table=7).frame
    assert value(frame, "bound_holds", "rate_pct", "published") == 95.0
    assert made(summary, "gpt2-small", table=7).frame["published"].isna().all()
    assert made(summary, "gpt2-small", corruption="zero").frame["published"].isna().all()


def lines(shown, provenance):
    return TABLE.tex(shown, provenance).splitlines()


def test_tex_golden_rows(summary, made, provenance):
    found = lines(made(summary, "smollm2-135m"), provenance)
    assert found[0] == "% profile: embedded; effort: quick"
    assert r"$\hat L$ & $1.2\times10^{-3}$ & 0.0345 & 0.250 & 12.3 \\" in found
    assert (
        r"$\hat L \|\delta\|^3 / 6$ (cubic bound) & $1.1\times10^{-4}$ & $3.5\times10^{-3}$ & "
        r"0.0100 & 0.200 \\"
    ) in found
    assert (r"\multicolumn{5}{l}{Bound holds with $\hat L$: 900 / 1{,}078 = 83.5\%} \\") in found
    assert (
        r"\multicolumn{5}{l}{Bound holds with $\hat L_{\mathrm{scalar}}$: "
        r"700 / 1{,}078 = 64.9\%} \\"
    ) in found
    assert (
        r"\multicolumn{5}{l}{Cubic bound / actual residual: median 6.25, mean $\infty$, "
        r"p10 0.750} \\"
    ) in found
    text = "\n".join(found)
    assert "SmolLM2-135M, Factual. SmolLM2-135M stands in for the paper's GPT-2 small." in text
    assert r"4 prompts $\times$ 270 heads = 1{,}080 records, 1{,}078 records with" in text
    assert "Few prompts (as few as $n = 4$): the distributions are only indicative." in text
    assert "gray" not in text


@pytest.mark.parametrize(("n", "height"), [(30, 10), (26, 9), (2, 1), (0, 1)])
def test_layers_stand_in_three_groups(summary, made, provenance, n, height):
    found = lines(made(summary, "own", n), provenance)
    start = max(i for i, line in enumerate(found) if line == r"\midrule") + 1
    end = max(i for i, line in enumerate(found) if line == r"\bottomrule")
    rows = [line.removesuffix(r" \\").split(" & ") for line in found[start:end]]
    assert len(rows) == height
    shown = [row[column].strip() for column in (0, 3, 6) for row in rows]
    assert [layer for layer in shown if layer] == [str(layer) for layer in range(n)]
    if n == 30:
        assert rows[0][:6] == ["0", r"$1.0\times10^{-3}$", "100", "10", "0.0110", "90.0"]


def test_the_papers_lines_stand_below_ours(summary, made, provenance):
    found = lines(made(summary, "gpt2-small"), provenance)
    ours = next(i for i, line in enumerate(found) if line.startswith(r"$\hat L$ & "))
    assert found[ours + 1].count("gray") == 5
    assert r"\textcolor{gray}{4.92}" in found[ours + 1]
    text = "\n".join(found)
    assert r"{paper: 2{,}370 / 2{,}877 = 82.4\%}" in text
    assert r"Its sample: 20 prompts $\times$ 144 heads = 2{,}880 records" in text
    assert "stands in" not in text


def test_an_empty_or_repeated_summary_is_refused(summary, made):
    with pytest.raises(ReportError, match="no Lipschitz summary; probe at least one prompt"):
        made(summary.iloc[:0], "smollm2-135m")
    with pytest.raises(ReportError, match="two rows for lipschitz_hat / median"):
        made(pd.concat([summary, summary]), "smollm2-135m")


@pytest.mark.parametrize(("number", "model"), [(6, "gpt2-small"), (7, "gemma-2-2b")])
def test_written_files_read_back_and_compile(
    number, model, summary, made, written, tmp_path, compiles
):
    summary.to_parquet(tmp_path / "summary.parquet")
    layer_frame(30).to_parquet(tmp_path / "layers.parquet")
    inputs = {"lipschitz": ["summary"], "lipschitz_layers": ["layers"]}
    inputs = {key: [tmp_path / f"{name}.parquet"] for key, (name,) in inputs.items()}
    back, text = written(f"table{number}", inputs, [f"{model}/my_task"])
    frame = made(summary, model, table=number).frame
    pd.testing.assert_series_equal(back["value"], frame["value"], check_dtype=False)
    assert back["published"].notna().sum() == frame["published"].notna().sum() > 10
    assert rf"\label{{tab:lipschitz-{number}}}" in text
    assert r"my\_task" in text
    compiles(text)
    twice = {name: paths * 2 for name, paths in inputs.items()}
    with pytest.raises(ValueError, match="two rows for lipschitz_hat / median"):
        written(f"table{number}", twice, ["a/b", "c/d"])
