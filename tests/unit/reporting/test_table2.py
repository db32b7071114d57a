from dataclasses import replace

import pandas as pd
import pytest

from hvp_patching.metrics.paired import marks, paired
from hvp_patching.metrics.summary import summarize_errors
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table2 import TABLE, USUAL_METRIC

DIGITS = "log-probability mass of the target set: tens digits above X"
COLUMNS = {
    "ap": "ap",
    "hvp": "hvp",
    "ms_hvp": "ms_hvp_5",
    "ig": "ig_10",
    "ih_pi": "ih_pi_5",
    "gim": "gim",
}
EMBEDDED = [
    ("ap", 1, 0.21, "tie"),
    ("hvp", 2, 0.168, "win"),
    ("ms_hvp_5", 10, 0.02341, "win"),
    ("ig_10", 10, 0.0234, "win"),
    ("gim", 1, 0.5, "loss"),
]
PAPER = [
    *EMBEDDED[:2],
    ("ms_hvp_5", 10, 0.03, "win"),
    ("ig_10", 10, 0.05, "tie"),
    EMBEDDED[4],
]
N = 50
SETTINGS = (
    ("smollm2-135m", "greater_than", N, EMBEDDED, DIGITS),
    ("gpt2-small", "ioi", 100, [*PAPER, ("ih_pi_5", 10, 0.1, "tie")], USUAL_METRIC),
    ("gemma-2-2b", "greater_than", 50, PAPER, USUAL_METRIC),
)


@pytest.fixture
def made(show):
    """The table of some settings: an embedded model with a gap, and two of the paper's."""

    def make(settings=SETTINGS, columns=COLUMNS, direction="noising", rename=None, without=()):
        summary, paired, prompts = [], [], []
        for model, task, n, methods, metric in settings:
            own = {"model": model, "task": task, "corruption": ""}
            prompts.append({**own, "metric": metric})
            for method, cost, value, verdict in methods:
                name = (rename or {}).get(method, method)
                if name in without:
                    continue
                line = {**own, "estimator": name, "cost": cost, "n_prompts": n, "value": value}
                summary.append(line | {"ci_low": value - 0.01, "ci_high": value + 0.01})
                if name != "ap":
                    pair = {"first": name, "second": "ap", "p": 0.002, "verdict": verdict}
                    pair |= {"p_smallest": 0.002, "decidable": n >= 6}
                    pair["verdict"] = verdict if n >= 6 else "undecided"
                    if verdict == "tie":
                        pair["p"] = 0.4
                    # another reference must not be taken for AP
                    paired += [{**own, **pair}, {**own, **pair, "second": "ig_10", "p": 0.9}]
        found = marks(pd.DataFrame(paired), list(columns.values()), "ap")
        frames = {"summary": summary, "marks_table2": found, "prompts": prompts}
        options = {"table2_columns": columns, "direction": direction}
        return show("table2", None, options, **{k: pd.DataFrame(v) for k, v in frames.items()})

    return make


@pytest.fixture
def shown(made):
    return made()


@pytest.fixture
def frame(shown):
    return shown.frame


def row(frame, model, task, method):
    found = frame.query("model == @model and task == @task and method == @method")
    assert len(found) == 1
    return found.iloc[0]


def test_columns_and_one_row_per_method(frame):
    assert list(frame.columns) == TABLE.columns.split()
    assert list(frame["estimator"]) == ["ap", "hvp", "ms_hvp_5", "ig_10", "ih_pi_5", "gim"] * 3
    assert list(frame["method"]) == ["ap", "hvp", "ms_hvp", "ig", "ih_pi", "gim"] * 3


def test_columns_may_show_other_estimators(made, provenance):
    shown = made(columns={"ap": "ap", "ig": "ig_left_10"}, rename={"ig_10": "ig_left_10"})
    assert row(shown.frame, "gpt2-small", "ioi", "ig")["published_pct"] == 3.30
    assert row(shown.frame, "gpt2-small", "ioi", "ig")["top5_rel_error_pct"] == pytest.approx(5)
    assert r"& AP & IG, left \\" in TABLE.tex(shown, provenance)


def test_baselines_that_the_paper_leaves_out_stand_below_its_methods(made, provenance):
    shown = made(columns={"ap": "ap", "ig": "ig_10"})  # gim is a baseline of the options
    assert shown.frame["method"].unique().tolist() == ["ap", "ig", "gim"]
    assert row(shown.frame, "gpt2-small", "ioi", "gim")["top5_rel_error_pct"] > 0
    text = TABLE.tex(shown, provenance)
    assert text.count(r"\begin{tabular}") == 2
    assert text.index("AP & IG") < text.index("& GIM \\\\")


def test_our_numbers_become_percent(frame):
    ours = row(frame, "smollm2-135m", "greater_than", "hvp")
    assert ours["top5_rel_error_pct"] == pytest.approx(16.8)
    assert (ours["ci_low"], ours["ci_high"]) == pytest.approx((15.8, 17.8))
    assert ours["p_vs_ap"] == 0.002
    assert ours["q_vs_ap"] == pytest.approx(0.002 * 13 / 10)  # ten of thirteen have this p
    assert (ours["decidable"], ours["survives"]) == (True, True)
    assert (ours["mark"], ours["cost"], ours["n_prompts"]) == ("better", 2, N)
    assert (ours["block"], ours["metric"]) == ("embedded", DIGITS)


def test_published_cells_are_joined_by_model_task_and_method(frame):
    paper = row(frame, "gpt2-small", "ioi", "ms_hvp")
    assert paper["published_pct"] == 2.97
    assert paper["published_mark"] == "better"
    assert paper["published_n"] == 100
    assert row(frame, "gpt2-small", "ioi", "gim")["published_pct"] == 54.71
    assert row(frame, "gpt2-small", "ioi", "gim")["published_mark"] == "worse"
    assert row(frame, "gemma-2-2b", "greater_than", "hvp")["published_pct"] == 0.62
    gap = row(frame, "gemma-2-2b", "greater_than", "ig")
    assert pd.isna(gap["published_pct"])
    assert gap["published_missing_reason"] == "tokenizer_incompatible"


def test_models_outside_the_paper_have_no_published_cells(frame):
    ours = frame[frame["model"] == "smollm2-135m"]
    assert ours[["published_pct", "published_mark", "published_n"]].isna().all(axis=None)


def test_gaps_have_a_reason(frame):
    gap = row(frame, "smollm2-135m", "greater_than", "ih_pi")
    assert gap["missing_reason"] == "not computed"
    assert pd.isna(gap["top5_rel_error_pct"])
    assert row(frame, "gemma-2-2b", "greater_than", "ih_pi")["missing_reason"] == "not computed"
    assert frame["missing_reason"].notna().sum() == 2


def lines(shown, provenance):
    return TABLE.tex(shown, provenance).splitlines()


def test_tex_golden_rows(shown, provenance):
    found = lines(shown, provenance)
    assert (
        r"smollm2-135m / Greater-Than & 50 & 21.00 & 16.80\rlap{$^{\star\star}$} & "
        r"\textbf{2.34}\rlap{$^{\star\star}$} & \textbf{2.34}\rlap{$^{\star\star}$} & -- & "
        r"50.00\rlap{$^{\circ\circ}$} \\"
    ) in found
    ours = next(i for i, line in enumerate(found) if line.startswith("gpt2-small / IOI & 100 & "))
    paper = found[ours + 1]
    assert paper.startswith(r"{\scriptsize\textcolor{gray}{paper}} & ")
    assert (
        r"{\scriptsize\textcolor{gray}{2.97}}\rlap{{\scriptsize\textcolor{gray}{$^{\star}$}}}"
    ) in paper


def test_header_heading_and_costs(shown, provenance):
    found = lines(shown, provenance)
    assert found[0] == "% profile: embedded; effort: quick"
    assert r"Model / task & $n$ & AP & Std HVP & MS-HVP & IG & IH-PI & GIM \\" in found
    steps = next(line for line in found if "{steps}" in line)
    assert [part.count("{=}") for part in steps.split("&")] == [0, 0, 0, 0, 1, 1, 1, 0]
    assert r"\scriptsize\textcolor{gray}{$K{=}5$}" in steps
    costs = next(line for line in found if "{cost}" in line)
    assert [part.count("gray}{1}") for part in costs.split("&")] == [0, 0, 1, 0, 0, 0, 0, 1]


def test_a_rule_stands_between_profiles_only_when_they_mix(shown, provenance):
    mixed = shown.frame.assign(block=shown.frame["model"].eq("smollm2-135m").map(
        {True: "embedded", False: "paper"}
    ))  # fmt: skip
    found = lines(replace(shown, frame=mixed), provenance)
    titles = [i for i, line in enumerate(found) if "multicolumn" in line]
    assert [found[i].split("textit")[1] for i in titles] == [
        r"{embedded profile}} \\",
        r"{paper profile}} \\",
    ]
    assert found[titles[1] - 1] == r"\midrule"
    alone = TABLE.tex(shown, provenance)
    assert "multicolumn" not in alone
    assert alone.count(r"\midrule") == 1


def test_notes_say_base_run_metric_gaps_and_few_prompts(made, shown, provenance):
    few = (*SETTINGS[0][:2], 2, *SETTINGS[0][3:])
    text = TABLE.tex(made((few, *SETTINGS[1:])), provenance)
    assert "Base run: the clean run" in text
    assert f"Metric of Greater-Than (smollm2-135m): {DIGITS}." in text
    assert "--: not computed." in text
    assert (
        r"Undecided, without a mark: 4 of 13 comparisons. $n$ is too small: fewer than 6 prompts "
        r"differ there, and no exact test can reach $p < 0.05$."
    ) in text
    assert "at 5\\% over all comparisons of the table that can be decided (9)" in text
    assert "Few prompts (as few as $n = 2$): the intervals are only indicative." in text
    assert "Grey: the paper's value" in text
    text = TABLE.tex(made(SETTINGS[1:2], direction="denoising"), provenance)
    assert "Base run: the corrupted run" in text
    assert "Few prompts" not in text
    assert "Undecided" not in text
    assert "Metric of" not in text


def test_two_prompts_earn_no_star(made, provenance):
    few = (*SETTINGS[0][:2], 2, *SETTINGS[0][3:])
    shown = made((few, *SETTINGS[1:]))
    ours = shown.frame[shown.frame["n_prompts"] == 2]
    assert set(ours["mark"]) == {"none"}
    assert not ours["decidable"].eq(True).any()
    line = next(text for text in lines(shown, provenance) if text.startswith("smollm2"))
    assert "star" not in line
    assert "circ" not in line


def test_a_mark_that_does_not_survive_stands_once(made, provenance):
    shown = made()
    frame = shown.frame.assign(survives=False)
    found = lines(replace(shown, frame=frame), provenance)
    assert any(r"16.80\rlap{$^{\star}$}" in line for line in found)
    assert not any(r"\star\star" in line for line in found if not line.startswith(r"\par"))


def test_written_csv_reads_back(written, tmp_path):
    errors = pd.DataFrame(
        [
            {"prompt_id": f"p{i}", "estimator": name, "cost": 1, "top_k_relative_error": value / i}
            for name, value in (("ap", 0.2), ("hvp", 0.1), ("ig_10", 0.3))
            for i in range(1, 8)
        ]
    )
    frames = {
        "summary": summarize_errors(errors),
    }
    own = {"model": "gpt2-small", "task": "ioi", "corruption": ""}
    pairs = paired(errors, ["ap", "ig_10"]).assign(**own)
    frames["marks_table2"] = marks(pairs, ["hvp"], "ap")
    frames["prompts"] = pd.DataFrame({"prompt_id": ["p1"], "metric": [USUAL_METRIC]})
    for name, table in frames.items():
        table.to_parquet(tmp_path / name)
    inputs = {name: [tmp_path / name] for name in frames}
    columns = {"ap": "ap", "hvp": "hvp"}
    options = {"table2_columns": columns, "baselines": []}
    back, text = written("table2", inputs, ["gpt2-small/ioi"], options=options)
    assert back["method"].tolist() == ["ap", "hvp"]
    mean = errors.groupby("estimator")["top_k_relative_error"].mean()
    assert back["top5_rel_error_pct"].tolist() == pytest.approx([100 * mean[n] for n in columns])
    assert back["mark"].tolist() == ["none", "better"]
    assert back["p_vs_ap"].iloc[1] == pytest.approx(pairs["p"].iloc[0])
    assert back["published_pct"].notna().all()
    assert text.startswith("% profile: embedded; effort: quick\n")


def test_bad_summaries_are_refused(made):
    with pytest.raises(ReportError, match=r"smollm2-135m/greater_than: .* errors of 'ap'"):
        made(without=("ap",))
    with pytest.raises(ReportError, match=r"two rows for smollm2-135m / greater_than / ap"):
        made((*SETTINGS, SETTINGS[0]))


def test_compiles(shown, provenance, compiles):
    compiles(TABLE.tex(shown, provenance))
