import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.ranking import case_study, top_k_recovery
from hvp_patching.reporting.names import stand_in_sentence
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table18 import TABLE, case_study_sentence
from hvp_patching.settings import Setting

SENTENCE = (
    "The head that AP ranks farthest below its true rank: L4H11, rank 7 by true effect, 27 by AP, "
    "12 by HVP; mean true effect -0.123, AP -0.00457, HVP -0.1 nats; rho = 20.9."
)


@pytest.fixture
def recovery():
    shares = {"hvp": (0.9, 14 / 15, 1.0), "ih_pi_5": (0, 0, 0), "ms_hvp_5": (1, 1, 1)}
    shares = {**shares, "ap": (0.8, 13 / 15, 0.95)}
    return pd.DataFrame(
        [
            {"estimator": estimator, "k": k, "overlap": overlap}
            for estimator, overlaps in shares.items()
            for k, overlap in zip((10, 15, 20, 26), (*overlaps, float("nan")), strict=True)
        ]
    )


@pytest.fixture
def heads():
    marked = {
        "layer": 4,
        "index": 11,
        "truth": -0.1234,
        "ap": -0.00457,
        "hvp": -0.1,
        "rho": 20.88,
        "rank_truth": 7,
        "rank_ap": 27,
        "rank_hvp": 12,
        "misranked": True,
        "n_prompts": 4,
    }
    return pd.DataFrame([marked | {"index": 10, "misranked": False}, marked])


@pytest.fixture
def made(show, heads):
    def make(recovery, setting, heads=heads):
        frames = {"recovery": recovery, "case_study": heads}
        keyed = {name: frame.assign(**vars(setting)) for name, frame in frames.items()}
        return show("table18", [setting], **keyed)

    return make


def test_shares_in_percent_in_the_order_of_the_methods(recovery, made):
    frame = made(recovery, Setting("smollm2-135m", "ioi")).frame
    assert list(frame.columns) == TABLE.columns.split()
    assert list(frame["estimator"].unique()) == ["ap", "hvp", "ms_hvp_5"]
    assert list(frame["method"].unique()) == ["ap", "hvp", "ms_hvp"]
    assert list(frame.loc[:2, "overlap_pct"]) == pytest.approx([80, 100 * 13 / 15, 95])
    assert frame["overlap_pct"].isna().sum() == 3
    assert frame["published_overlap_pct"].isna().all()


def test_published_cells_only_for_the_papers_setting(recovery, made):
    frame = made(recovery, Setting("gpt2-small", "ioi")).frame.set_index(["estimator", "k"])
    assert frame.loc[("ap", 10), "published_overlap_pct"] == 80
    assert frame.loc[("hvp", 26), "published_overlap_pct"] == 100
    assert frame.loc["ms_hvp_5", "published_overlap_pct"].isna().all()
    for other in (Setting("gpt2-small", "factual"), Setting("gpt2-small", "ioi", "abc")):
        assert made(recovery, other).frame["published_overlap_pct"].isna().all()


def test_tex_golden_rows(recovery, made, provenance):
    shown = made(recovery, Setting("smollm2-135m", "ioi"))
    found = TABLE.tex(shown, provenance).splitlines()
    assert r"Method & Top-10 & Top-15 & Top-20 & Top-26 \\" in found
    assert r"AP & 80\% & 87\% & 95\% & -- \\" in found
    assert r"MS-HVP (K=5) & 100\% & 100\% & 100\% & -- \\" in found
    text = "\n".join(found)
    assert "SmolLM2-135M, IOI. SmolLM2-135M stands in for the paper's GPT-2 small." in text
    assert "L4H11, rank 7 by true effect, 27 by AP, 12 by HVP" in text
    assert (
        r"mean true effect $-$0.123, AP $-4.6\times10^{-3}$, HVP $-$0.100 nats; $\rho$ = 20.9."
    ) in text
    assert "2 heads in all." in text
    assert "fewer heads than $k$" in text
    assert "ranks and shares are only indicative" in text
    assert "gray" not in text


def test_the_papers_lines_stand_below_ours(recovery, heads, made, provenance):
    shown = made(recovery, Setting("gpt2-small", "ioi"), heads.assign(n_prompts=50))
    found = TABLE.tex(shown, provenance).splitlines()
    hvp = next(i for i, line in enumerate(found) if line.startswith("Std HVP"))
    assert found[hvp + 1].startswith(r"{\scriptsize\textcolor{gray}{paper}} & ")
    assert r"\textcolor{gray}{90\%}" in found[hvp + 1]
    assert found[hvp + 2].startswith("MS-HVP")
    assert "Few prompts" not in "\n".join(found)


def test_case_study_names_the_marked_head(heads):
    assert case_study_sentence(heads) == SENTENCE
    lucky = case_study_sentence(heads.assign(rank_ap=7))
    assert lucky.startswith("AP ranks none of the true top heads too low; the first of them: L4H11")
    with pytest.raises(ReportError, match="2 heads are marked as misranked, not 1"):
        case_study_sentence(heads.assign(misranked=True))


def test_without_its_methods_the_table_is_refused(recovery, made):
    other = recovery[recovery["estimator"] == "ih_pi_5"]
    with pytest.raises(ReportError, match="smollm2-135m/ioi: no recovery by ap, hvp, ms_hvp, ig"):
        made(other, Setting("smollm2-135m", "ioi"))


def test_stand_ins_are_named():
    assert stand_in_sentence(["gpt2-small"], ["gpt2-small"]) == ""
    assert stand_in_sentence(["a", "gpt2-small", "b"], ["gpt2-small", "gemma-2-2b"]) == (
        "a and b stand in for the paper's GPT-2 small and Gemma-2-2B."
    )


def scores(n_heads=12):
    """Twelve heads on three prompts; AP misses head 0, which has the largest effect."""
    rng = np.random.default_rng(0)
    truth = np.linspace(-1, -0.1, n_heads) + 0.01 * rng.standard_normal((3, n_heads))
    rows = []
    for estimator in ("ap", "hvp"):
        estimate = truth.copy()
        estimate[:, 0] *= 0.01 if estimator == "ap" else 0.9
        for prompt in range(3):
            for head in range(n_heads):
                cells = {"layer": head // 4, "index": head % 4, "truth": truth[prompt, head]}
                cells |= {"estimate": estimate[prompt, head], "estimator": estimator, "cost": 1}
                rows.append({"prompt_id": f"p{prompt}", **cells})
    return pd.DataFrame(rows)


def test_written_files_read_back(written, tmp_path):
    top_k_recovery(scores()).to_parquet(tmp_path / "recovery.parquet")
    case_study(scores()).to_parquet(tmp_path / "case_study.parquet")
    inputs = {name: [tmp_path / f"{name}.parquet"] for name in ("recovery", "case_study")}
    back, text = written("table18", inputs, ["my_model/ioi"])
    back = back.set_index(["estimator", "k"])
    assert back.loc[("ap", 10), "overlap_pct"] == 90
    assert back.loc[("hvp", 10), "overlap_pct"] == 100
    assert back.loc[("ap", 26), "overlap_pct"] != back.loc[("ap", 26), "overlap_pct"]
    assert "L0H0, rank 1 by true effect, 12 by AP" in text
    csv = (tmp_path / "table18.csv").read_text()
    head = next(line for line in csv.splitlines() if line.startswith("# The head that AP"))
    assert "L0H0, rank 1 by true effect, 12 by AP" in head
    assert csv.count("L0H0") == 1
    assert r"my\_model, IOI" in text


def test_it_compiles(recovery, made, provenance, compiles):
    compiles(TABLE.tex(made(recovery, Setting("gpt2-small", "ioi")), provenance))
