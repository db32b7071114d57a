"""Table 15: how well each method ranks heads."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.ranking import rank_agreement
from hvp_patching.reporting.tables.table15 import METHODS, SHOWN, TABLE

ESTIMATORS = {"ap": 0.5, "hvp": 0.2, "ms_hvp_5": 0.05, "ig_10": 0.02, "ih_pi_5": 0.1, "gim": 1}


def ranking(seed=0, n_heads=30, n_prompts=7):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "prompt_id": f"p{i}",
            "layer": head // 5,
            "index": head % 5,
            "estimator": name,
            "estimate": truth + rng.normal(scale=spread),
            "truth": truth,
            "cost": 1,
        }
        for i in range(n_prompts)
        for head, truth in enumerate(rng.normal(size=n_heads))
        for name, spread in ESTIMATORS.items()
    ]
    return rank_agreement(pd.DataFrame(rows))


def with_key(frame, model, task="ioi"):
    return frame.assign(model=model, task=task, corruption="")


@pytest.fixture
def made(show):
    return lambda *parts: show("table15", ranking=pd.concat(parts))


def test_rows_follow_the_methods_order_with_the_papers_beside(made):
    own = ranking()
    frame = made(with_key(own, "gpt2-small")).frame
    assert list(frame.columns) == TABLE.columns.split()
    assert frame["method"].tolist() == [*METHODS]
    ours = frame.set_index("estimator")
    for estimator in ESTIMATORS:
        expected = own.set_index("estimator").loc[estimator, [*SHOWN]]
        assert ours.loc[estimator, [*SHOWN]].tolist() == expected.tolist()
    theirs = frame.set_index("method")["published_kendall_tau"]
    assert theirs[["ap", "hvp", "ih_dr", "gim"]].tolist() == [0.568, 0.567, 0.552, 0.552]
    assert theirs[["ms_hvp", "ig", "ih_pi"]].isna().all()
    assert np.isnan(ours["kendall_tau"]["ih_dr_3"])  # the paper's alone


def test_a_model_of_our_own_has_no_row_for_what_only_the_paper_has(made):
    frame = made(with_key(ranking(), "smollm2-135m")).frame
    assert "ih_dr" not in set(frame["method"])
    assert frame.filter(like="published").isna().all(axis=None)


def test_tasks_stand_side_by_side(made, provenance, compiles):
    parts = [
        with_key(ranking(seed), model, task)
        for seed, (model, task) in enumerate(
            [
                ("gpt2-small", "ioi"),
                ("gpt2-small", "greater_than"),
                ("smollm2-135m", "ioi"),
                ("smollm2-135m", "factual"),
            ]
        )
    ]
    text = TABLE.tex(made(*parts), provenance)
    assert text.count("Greater-Than") == 1
    assert "GPT-2 small (30 heads)" in text
    assert "SmolLM2-135M stands in for the paper's GPT-2 small, Pythia-410M" in text
    assert text.count("{paper}") == 4
    assert "0.568" in text
    assert "Few prompts" not in text
    compiles(text)


def test_many_tasks_break_into_grids_and_gaps_are_explained(made, provenance, compiles):
    few = ranking(n_heads=12, n_prompts=3)
    tasks = ("ioi", "greater_than", "factual", "entity_swap")
    shown = made(*(with_key(few, "tiny-gpt2", task) for task in tasks))
    assert shown.frame["ndcg_at_20"].isna().all()
    text = TABLE.tex(shown, provenance)
    assert text.count(r"\begin{tabular}") == 2
    assert "--: not computed, or fewer heads than $k$." in text
    assert "Few prompts (as few as $n = 3$)" in text
    compiles(text)


def test_both_files_are_written(written, tmp_path):
    ranking().to_parquet(tmp_path / "a.parquet")
    frame, text = written("table15", {"ranking": [tmp_path / "a.parquet"]}, ["smollm2-135m/ioi"])
    assert len(frame) == len(ESTIMATORS)
    assert frame["ndcg_effect_at_5"].notna().all()
    assert "% profile: embedded" in text
