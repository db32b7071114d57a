"""Table 13: mean absolute errors under entity swaps."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.absolute import absolute_errors
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table13 import TABLE

N_PROMPTS, N_HEADS = 7, 12


def scores(model="smollm2-135m", seed=0, n_prompts=N_PROMPTS, task="entity_swap"):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n_prompts):
        for head in range(N_HEADS):
            truth = rng.normal()
            for name, cost, spread in (("ap", 1, 0.1), ("hvp", 2, 0.04), ("ms_hvp_5", 10, 0.01)):
                rows.append(
                    {
                        "prompt_id": f"p{i}",
                        "layer": head // 4,
                        "index": head % 4,
                        "estimator": name,
                        "estimate": truth + rng.normal(scale=spread),
                        "truth": truth,
                        "cost": cost,
                    }
                )
    return pd.DataFrame(rows).assign(model=model, task=task, corruption="")


@pytest.fixture
def made(show, each):
    def make(table):
        return show("table13", absolute_errors=each(table, absolute_errors, n_resamples=300))

    return make


def test_mae_is_over_all_records(made):
    own = scores()
    frame = made(own).frame
    assert list(frame.columns) == TABLE.columns.split()
    ap, hvp = (own[own["estimator"] == name] for name in ("ap", "hvp"))
    maes = [float(np.mean(np.abs(t["estimate"] - t["truth"]))) for t in (ap, hvp)]
    assert frame["mae"].tolist() == pytest.approx(maes)
    assert frame["relative_to_ap"].tolist() == pytest.approx([1, maes[1] / maes[0]])
    assert frame["reduction_pct"][1] == pytest.approx(100 * (1 - maes[1] / maes[0]))
    assert frame["reduction_ci_low_pct"][1] < frame["reduction_pct"][1]
    assert frame["reduction_ci_high_pct"][1] > frame["reduction_pct"][1]
    assert np.isnan(frame["reduction_pct"][0])
    sizes = frame[["n_prompts", "n_heads", "n_records"]]
    assert sizes.to_numpy().tolist() == [[N_PROMPTS, N_HEADS, N_PROMPTS * N_HEADS]] * 2
    assert frame["published_mae"].isna().all()


def test_the_papers_relative_errors_are_worked_out(made):
    frame = made(scores("gpt2-small")).frame
    assert frame["published_mae"].tolist() == [0.0034, 0.00156]
    assert frame["published_relative_to_ap"].tolist() == pytest.approx([1, 0.00156 / 0.0034])
    assert frame["published_reduction_pct"][1] == 54.1
    assert frame["published_n_records"].tolist() == [7056, 7056]


def test_both_files_are_written_and_compile(written, compiles, tmp_path):
    settings, paths = [], []
    for model in ("gpt2-small", "gemma-3-270m"):
        own = scores(model, n_prompts=3).drop(columns=["model", "task", "corruption"])
        absolute_errors(own).to_parquet(tmp_path / model)
        settings.append(f"{model}/entity_swap")
        paths.append(tmp_path / model)
    frame, text = written("table13", {"absolute_errors": paths}, settings)
    assert len(frame) == 4
    assert "GPT-2 small (12 heads, 3 prompts, 36 records)" in text
    assert "0.00156" in text
    assert "54.1" in text
    assert "Gemma-3-270M stands in for the paper's GPT-2 small and Pythia-410M." in text
    assert "(7{,}056 records)" in text
    assert "Few prompts (as few as $n = 3$)" in text
    compiles(text)


def test_an_error_below_a_thousandth_keeps_its_digits(made, provenance):
    own = scores()
    own["estimate"] = own["truth"] + (own["estimate"] - own["truth"]) / 1e5
    text = TABLE.tex(made(own), provenance)
    assert r"\times10^{-7}" in text
    assert "0.00000" not in text


def test_another_task_is_refused(made):
    with pytest.raises(ReportError, match="Table 13 shows entity_swap, got 'ioi'"):
        made(scores(task="ioi"))
