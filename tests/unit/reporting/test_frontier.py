"""The frontier table: numbers, recommendation, LaTeX."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.frames import FrameError
from hvp_patching.metrics.frontier import frontier
from hvp_patching.reporting.tables.frontier import TABLE
from hvp_patching.reporting.tables.frontier_words import recommendation

N = 100
MEASURED = {
    "forward": {1: 0.5},
    "base_run": {1: 1.0},
    "reverse_pass": {N: 4.0},
    "patching": {1: 0.5, 10: 1.4, N: 10.4},
    "order_2_at_zero": {1: 1.0, 10: 2.8, N: 20.8},
    "order_1": {1: 1.0, 10: 4.6, N: 40.6},
}
ERRORS = {"ap": 0.3, "hvp": 0.15, "ig_1": 0.2, "ig_2": 0.1, "ig_10": 0.02}


def inputs(measured=MEASURED, errors=ERRORS, n_prompts=2):
    """Results of one setting; AP misses every component by a known half."""
    costs = [
        (operation, rows, seconds, "cpu", 2)
        for operation, sizes in measured.items()
        for rows, seconds in sizes.items()
    ]
    truth = np.random.default_rng(0).normal(size=N)
    prompts = [f"p{i}" for i in range(n_prompts)]
    return {
        "costs": pd.DataFrame(costs, columns=["operation", "rows", "seconds", "device", "threads"]),
        "sweep_errors": pd.DataFrame(
            [(p, e, 1, error) for e, error in errors.items() for p in prompts],
            columns=["prompt_id", "estimator", "cost", "top_k_relative_error"],
        ),
        "scores": pd.concat(
            pd.DataFrame(
                {
                    "prompt_id": prompt,
                    "layer": np.arange(N) // 10,
                    "index": np.arange(N) % 10,
                    "estimator": "ap",
                    "estimate": truth / 2,
                    "truth": truth,
                    "cost": 1,
                }
            )
            for prompt in prompts
        ),
    }


@pytest.fixture
def made(show):
    def make(*settings, model="smollm2-135m", **changes):
        settings = settings or ((model, "ioi", inputs(**changes)),)
        parts = [
            frontier(**tables, n_resamples=50).assign(model=one, task=task, corruption="")
            for one, task, tables in settings
        ]
        return show("frontier", frontier=pd.concat(parts))

    return make


@pytest.fixture
def frame(made):
    return made().frame


def test_the_frame_has_every_method_and_size_in_percent(frame):
    assert list(frame.columns) == TABLE.columns.split()
    screened = [f"ap_then_patching_{k}" for k in (5, 10, 20, 40)]
    assert list(frame.loc[frame["n_components"] == N, "estimator"]) == [
        *ERRORS,
        "activation_patching",
        *screened,
    ]
    hvp = frame[(frame["estimator"] == "hvp") & (frame["n_components"] == 10)].iloc[0]
    assert hvp["top5_rel_error_pct"] == pytest.approx(15)
    assert hvp["ci_high_pct"] == pytest.approx(15)
    assert hvp["forward_equivalents"] == pytest.approx((1 + 2.8) / 10 / 0.5)
    assert (hvp["model"], hvp["task"], hvp["corruption"]) == ("smollm2-135m", "ioi", "")
    assert (hvp["device"], hvp["threads"]) == ("cpu", 2)


def test_the_recommendation_states_the_numbers(frame):
    text = recommendation(frame)
    assert text.startswith(
        "AP of all 100 components takes 8 forward passes, the truth of all 22.8. "
    )
    # 1 + 1.4 + 16 / 10 s for 26 components, 4 s for a reverse pass
    assert "Up to 26 components, patch them: the truth takes no longer than AP." in text
    # AP ranks as the truth does: patching its five largest leaves no top-5 error
    assert "its error of 30% falls to 0% (k=5, 9.8), with forward passes" in text
    better = "No estimator better than AP is on the frontier"
    # HVP: 21.8 s against 11.4 s; alone 2 s against 1.5 s
    assert f"{better} for all 100 components: the cheapest, Std HVP, takes 1.9 times" in text
    assert f"{better} for one component alone: the cheapest, Std HVP, takes 1.3 times" in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"reverse_pass": {N: 50.0}}, "the truth of all 22.8: patch them all."),
        ({"reverse_pass": {N: 0.9}}, "the truth of all 22.8, that of a single one 3."),
        (
            {"order_2_at_zero": {1: 0.1, N: 0.7}, "order_1": {1: 0.1, N: 1.0}},
            "better than AP for all 100 components: Std HVP (15%, 0.15 times its time), "
            "IG (N=2) (10%, 0.26 times its time).",
        ),
    ],
)
def test_the_recommendation_follows_the_costs(made, change, sentence):
    assert sentence in recommendation(made(measured=MEASURED | change).frame)


def test_no_estimator_better_than_ap_is_said(made):
    text = recommendation(made(errors={"ap": 0.1, "hvp": 0.2}).frame)
    assert "No estimator has a lower error than AP for all 100 components." in text


def test_latex_shows_the_usual_methods_and_the_frontier(made, provenance):
    text = TABLE.tex(made(), provenance)
    assert text.startswith("% profile: embedded; effort: quick")
    rows = {line.split(" & ")[0]: line for line in text.splitlines() if " & " in line}
    assert "Activation patching" in rows
    assert "IG (N=10)" in rows
    assert "IG (N=1)" not in rows  # neither usual nor on a frontier
    exact = rows["Activation patching"].split(" & ")
    assert exact[1:6] == ["--", "0.00", r"\textbf{3.00}", r"\textbf{0.480}", "0.228"]
    ap = rows["AP"].split(" & ")
    assert ap[3:6] == ["8.00", "0.800", r"\textbf{0.0800}"]
    assert ap[6:8] == [r"4{,}000", "400"]
    assert rows["AP, then exact patching (k=5)"].count("--") == 5
    assert "(CPU, 2 threads)" in text
    assert "Few prompts (as few as $n = 2$)" in text


def test_two_settings_are_two_blocks(made, provenance):
    second = ("gemma-3-270m", "factual", inputs(n_prompts=7))
    text = TABLE.tex(made(("smollm2-135m", "ioi", inputs()), second), provenance)
    for name in ("SmolLM2-135M, IOI", "Gemma-3-270M, Factual"):
        assert rf"\textit{{{name}: 100 components}}" in text
        assert f"{name}: AP of all 100 components" in text


def test_it_compiles(made, provenance, compiles):
    second = ("gemma-3-270m", "factual", inputs(n_prompts=7))
    compiles(TABLE.tex(made(("smollm2-135m", "ioi", inputs()), second), provenance))


def test_a_model_of_few_components_has_no_column_of_ten(made, provenance):
    few = {name: {min(n, 4): t for n, t in sizes.items()} for name, sizes in MEASURED.items()}
    text = TABLE.tex(made(measured=few | {"forward": {1: 0.5}}), provenance)
    (exact,) = (line for line in text.splitlines() if line.startswith("Activation patching"))
    cells = exact.removesuffix(r" \\").split(" & ")[3:]
    assert cells[1] == cells[4] == "--"
    assert cells[0] != "--" != cells[2]


def test_write_leaves_both_files(written, tmp_path):
    frontier(**inputs(), n_resamples=50).to_parquet(tmp_path / "a.parquet")
    back, text = written("frontier", {"frontier": [tmp_path / "a.parquet"]}, ["smollm2-135m/ioi"])
    assert r"\label{tab:frontier}" in text
    csv = (tmp_path / "frontier.csv").read_text()
    assert "# SmolLM2-135M, IOI: AP of all 100 components" in csv
    assert len(back) == 2 * 6 + 6 + 4
    assert set(back["on_frontier"]) == {True, False}


def test_costs_without_their_device_are_refused():
    tables = inputs()
    tables["costs"] = tables["costs"].drop(columns="device")
    with pytest.raises(FrameError, match="lacks the columns device"):
        frontier(**tables)
