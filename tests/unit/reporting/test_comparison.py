import csv
import sys
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import yaml
from snakemake.utils import update_config

from hvp_patching.metrics.absolute import absolute_errors
from hvp_patching.metrics.edges import edge_costs
from hvp_patching.metrics.paired import marks, paired
from hvp_patching.metrics.summary import medians, summarize, summarize_errors
from hvp_patching.reporting.comparison import (
    COLUMNS,
    LOST,
    NO_TASK,
    comparison,
    read_our_tables,
    summary_sentence,
    table_number,
    table_sentences,
)
from hvp_patching.reporting.provenance import Provenance, csv_text
from hvp_patching.reporting.results import ReportError, Results
from hvp_patching.reporting.tables import load_table
from hvp_patching.settings import KEY, Setting

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "workflow"))

import artefacts  # noqa: E402

NUMBERED = (2, 3, 4, *range(6, 19))
# columns that say what a number is of, in any table; the cost does so in Table 9 alone
KEYS = {"block", "model", "task", "method", "component", "corruption", "quantity", "statistic"}
KEYS |= {"k", "layer", "hook", "notes"}
FACTORS = (0.8, 0.9, 1.0, 1.0, 1.1, 1.2)  # of six prompts; mean and median are 1
ERRORS = {
    "ap": (1, 0.2),
    "hvp": (2, 0.1),
    "ms_hvp_5": (10, 0.03),
    "ig_10": (10, 0.05),
    "ih_pi_5": (10, 0.08),
    "ih_dr_3": (18, 0.07),
    "gim": (1, 0.5),
}
MADE = Provenance("paper", "quick", ("gpt2-small",), {}, {}, "0123abc")
SHARES = {"ap": 0.8, "hvp": 0.9, "ms_hvp_5": 0.95, "ig_10": 0.9, "gim": 0.6}


@pytest.fixture(scope="module")
def papers():
    folder = ROOT / "data" / "published"
    return {number: pd.read_csv(folder / f"table{number:02d}.csv") for number in NUMBERED}


def errors(model, task, corruption="", site="attn_heads"):
    own = {"model": model, "task": task, "corruption": corruption, "site": site}
    return pd.DataFrame(
        [
            {
                **own,
                "prompt_id": f"p{number}",
                "estimator": estimator,
                "cost": cost,
                "n_components": 144,
                "n_nontrivial": 100 + number,
                "top_k_relative_error": factor * error,
                "median_relative_error": factor * error,
            }
            for estimator, (cost, error) in ERRORS.items()
            for number, factor in enumerate(FACTORS)
        ]
    )


def overlap(model, task):
    return pd.DataFrame(
        [
            {
                "model": model,
                "task": task,
                "corruption": "",
                "prompt_id": f"p{number}",
                "estimator": estimator,
                "k": k,
                "overlap": share * factor / 1.2,
            }
            for estimator, share in SHARES.items()
            for k in (5, 10, 20)
            for number, factor in enumerate(FACTORS)
        ]
    )


def entity_scores(model):
    """Errors of AP of 0.004 and of HVP of 0.001 nats on both heads."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "task": "entity_swap",
                "corruption": "",
                "prompt_id": f"p{number}",
                "layer": 0,
                "index": head,
                "estimator": estimator,
                "estimate": 0.1 + error * factor,
                "truth": 0.1,
                "cost": 1,
            }
            for estimator, error in (("ap", 0.004), ("hvp", 0.001))
            for number, factor in enumerate(FACTORS)
            for head in range(2)
        ]
    )


def ranking(model):
    numbers = dict.fromkeys(("spearman", *(f"ndcg_effect_at_{k}" for k in (5, 10, 20))), 0.5)
    numbers |= {"kendall_tau": 0.6, "ndcg_at_5": 0.9, "ndcg_at_10": 0.8, "ndcg_at_20": 0.7}
    own = {"model": model, "task": "ioi", "corruption": "", "n_components": 144, "n_prompts": 6}
    return pd.DataFrame([{**own, "estimator": name, **numbers} for name in ERRORS])


def lipschitz(model):
    summary = pd.DataFrame(
        [("lipschitz_hat", "median", 0.002), ("bound_holds", "rate_pct", 90.0)],
        columns=["quantity", "statistic", "value"],
    )
    own = {"model": model, "task": "factual", "corruption": ""}
    return {"lipschitz": summary.assign(**own), "lipschitz_layers": pd.DataFrame()}


def circuits(model):
    areas = {
        f"{area}{end}": 0.9 for area in ("cpr", "cmd", "average") for end in ("", "_low", "_high")
    }
    own = {"model": model, "task": "ioi", "corruption": ""}
    row = {**own, "method": "eap", "selection": "signed", "n_prompts": 6, **areas}
    able = {**own, "n_prompts": 6, "accuracy": 0.8, "chance": 0.0, "able": True}
    return {"circuit_summary": pd.DataFrame([row]), "ability": pd.DataFrame([able])}


def features(model):
    own = {"model": model, "task": "ioi", "corruption": ""}
    places = [{**own, "layer": n, "hook": f"blocks.{n}.hook_resid_pre"} for n in (5, 9)]
    shared = ("n_prompts", "n_components", "n_records", "n_all_records", "mae", "reduction")
    shared += ("reduction_low", "reduction_high", "correlation", "rank_correlation", "uncovered")
    errors = [
        {**place, "estimator": name, **dict.fromkeys(shared, 0.5)}
        for place in places
        for name in ("ap", "hvp")
    ]
    kept = ("n_features", "n_tokens", "explained_variance", "l0", "dead", "loss_recovered")
    kept += ("loss", "loss_spliced", "loss_zero")
    quality = [
        {**place, "trained": True, "activation": "relu", **dict.fromkeys(kept, 0.5)}
        for place in places
    ]
    return {"feature_errors": pd.DataFrame(errors), "autoencoders": pd.DataFrame(quality)}


def edge_seconds(model):
    """Two prompts of 0.5 s of captures: EAP takes 1 s, joint HVP 2 s and flags 40%."""
    rows = [
        {
            "prompt_id": prompt,
            "method": method,
            "per": "prompt",
            "n_scored": 1,
            "n_units": 1,
            "n_layers": 12,
            "n_edges": 32491,
            "seconds": seconds,
            "captures": 0.5,
            "flagged_share": flagged,
            "place": "cpu",
        }
        for prompt in ("p0", "p1")
        for method, seconds, flagged in (("eap", 1.0, float("nan")), ("hvp_joint", 2.0, 0.4))
    ]
    found = edge_costs(pd.DataFrame(rows), n_resamples=50)
    return found.assign(model=model, task="ioi", corruption="")


def each(table, function, *args, **options):
    """A function of `metrics` on every setting (and site) apart, as the rules call it."""
    keys = [name for name in (*KEY, "site") if name in table]
    parts = []
    for key, group in table.groupby(keys, sort=False):
        found = function(group.drop(columns=keys), *args, n_resamples=50, **options)
        parts.append(found.assign(**dict(zip(keys, key, strict=True))))
    return pd.concat(parts, ignore_index=True)


COLUMNS_OF_2 = {"ap": "ap", "hvp": "hvp", "ms_hvp": "ms_hvp_5", "ig": "ig_10"}
COLUMNS_OF_2 |= {"ih_pi": "ih_pi_5", "gim": "gim"}


def made(papers, number, settings=(), **frames):
    options = {
        "profile": "paper",
        "features": {"threshold": 1e-4},
        "table2_columns": COLUMNS_OF_2,
        "baselines": ["gim"],
    }
    results = Results(frames, settings, options)
    return load_table(f"table{number}").show(results, papers[number]).frame


def make_table2(papers, table):
    without_site = table.drop(columns="site")
    prompts = without_site[[*KEY]].drop_duplicates().assign(metric="log-probability of the target")
    against = marks(
        each(without_site, paired, ["ap"]), ["hvp", "ms_hvp_5", "ig_10", "ih_pi_5", "gim"], "ap"
    )
    summary = each(without_site, summarize_errors)
    return made(papers, 2, summary=summary, marks_table2=against, prompts=prompts)


def make_tables(papers, gpt2="gpt2-small", pythia="pythia-410m", gemma="gemma-2-2b"):
    """Tables of the three models' settings, by their own specifications."""
    ioi = errors(gpt2, "ioi").drop(columns="site")
    pairs = each(ioi, paired, ["ap", "ig_10", "ms_hvp_5"])
    shares = pd.DataFrame(
        [
            {"estimator": estimator, "k": k, "overlap": 0.9}
            for estimator in ("ap", "hvp")
            for k in (10, 15, 20, 26)
        ]
    )
    own = {"model": gpt2, "task": "ioi", "corruption": ""}
    corruptions = pd.concat([errors(gpt2, "ioi", name) for name in ("zero", "resample")])
    at_k = {"column": "overlap", "by": ["k"]}
    top = each(overlap(gpt2, "ioi"), paired, ["ap"], **at_k)
    one = [Setting(gpt2, "ioi")]
    return {
        2: make_table2(papers, errors(gpt2, "ioi")),
        3: made(
            papers,
            3,
            [Setting(pythia, "factual")],
            medians=each(errors(pythia, "factual"), medians),
        ),
        4: made(papers, 4, overlap_summary=each(overlap(gpt2, "greater_than"), summarize, **at_k)),
        6: made(papers, 6, **lipschitz(gpt2)),
        7: made(papers, 7, **lipschitz(gemma)),
        8: made(
            papers,
            8,
            one,
            marks_table8=marks(pairs, ["ms_hvp_5"], "ig_10"),
            summary=each(ioi, summarize),
        ),
        9: made(
            papers,
            9,
            hessian_paired=pairs,
            hessian_summary=each(ioi, summarize),
            marks_table9=marks(pairs, ["ap"], "ms_hvp_5"),
        ),
        10: made(papers, 10, one, marks_table10=marks(top, ["gim"], "ap")),
        11: made(papers, 11, medians=each(errors(gpt2, "factual"), medians)),
        12: made(papers, 12, medians=each(corruptions.drop(columns="site"), medians)),
        13: made(papers, 13, absolute_errors=each(entity_scores(gpt2), absolute_errors)),
        14: made(papers, 14, edge_costs=edge_seconds(gpt2)),
        15: made(papers, 15, ranking=ranking(gpt2)),
        16: made(papers, 16, **circuits(gpt2)),
        17: made(papers, 17, **features(gpt2)),
        18: made(papers, 18, one, recovery=shares.assign(**own)),
    }


def through_files(tables):
    """The tables as their files give them back."""
    texts = {number: csv_text(frame, MADE) for number, frame in tables.items()}
    return {number: pd.read_csv(StringIO(text), comment="#") for number, text in texts.items()}


@pytest.fixture(scope="module")
def tables(papers):
    """The paper's settings; not to be changed in place."""
    return make_tables(papers)


@pytest.fixture(scope="module")
def joined(papers, tables):
    return comparison(through_files(tables), papers, "paper")


@pytest.fixture(scope="module")
def embedded(papers):
    tables = make_tables(papers, *["smollm2-135m"] * 3)
    return comparison(through_files(tables), papers, "embedded")


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def printed_numbers(published):
    """(table, column, number) of every cell of the published files that is a number and no key."""
    found = []
    for number in NUMBERED:
        keys = KEYS | ({"cost_backward_passes"} if number == 9 else set())
        with open(published / f"table{number:02d}.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                cells = {name: text for name, text in row.items() if name not in keys}
                found += [(number, c, float(text)) for c, text in cells.items() if is_number(text)]
    return found


@pytest.mark.parametrize("which", ["joined", "embedded"])
def test_every_published_number_is_listed_once(which, published, request):
    frame = request.getfixturevalue(which)
    assert list(frame.columns) == COLUMNS
    listed = frame[frame["published"].notna()]
    rows = listed[["table", "cell", "published"]].itertuples(index=False, name=None)
    expected = printed_numbers(published)
    assert len(expected) > 700
    assert Counter(rows) == Counter(expected)
    assert not frame.duplicated(["table", "model", "task", "row", "cell"]).any()


def test_numbers_lost_in_our_copy_are_listed_without_a_value(embedded):
    lost = embedded[embedded["published"].isna()]
    assert (lost["reason"] == LOST).all()
    assert (embedded["reason"] == LOST).sum() == len(lost)
    counts = lost.groupby(["table", "cell"]).size().to_dict()
    assert counts == {
        (3, "cost_backward_passes"): 10,
        (6, "value"): 3,
        (7, "value"): 3,
        (13, "relative_to_ap"): 4,
        (14, "overhead_vs_eap"): 9,
    }


def test_ours_stand_beside_the_papers_where_model_and_task_are_the_papers(joined):
    compared = joined[joined["ours"].notna()]
    assert compared.groupby("table").size().to_dict() == {
        2: 17,  # six methods: prompts, error, and a cost, which the paper prints of five
        3: 13,  # AP, GIM, HVP and the truth on heads
        4: 15,
        6: 2,
        7: 2,
        8: 6,
        9: 6,
        10: 8,
        11: 10,
        12: 6,
        13: 7,
        14: 6,
        15: 20,
        16: 3,
        17: 12,
        18: 8,
    }
    assert (compared["reason"] == "").all()
    assert (joined.loc[joined["ours"].isna(), "reason"] != "").all()
    assert joined.loc[joined["ours"].isna(), ["difference", "ratio"]].isna().all(axis=None)


def only(frame, **where):
    """The row with these values."""
    found = frame[(frame[list(where)] == pd.Series(where)).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


GPT2_IOI = ("gpt2-small", "ioi")


@pytest.mark.parametrize(
    ("table", "setting", "row", "cell", "printed", "ours"),
    [
        (2, GPT2_IOI, "ms_hvp", "top5_rel_error_pct", 2.97, 3),
        (2, GPT2_IOI, "ig", "cost_backward_passes", 10, 10),
        (2, GPT2_IOI, "gim", "n_prompts", 100, 6),
        (3, ("pythia-410m", "factual"), "attention_head, hvp", "reduction_pct", 77.4, 50),
        (3, ("pythia-410m", "factual"), "attention_head, truth", "reduction_pct", 100, 100),
        (3, ("pythia-410m", "factual"), "attention_head, gim", "error_pct", 2.6, 50),
        (4, ("gpt2-small", "greater_than"), "ig, k=10", "topk_overlap_pct", 52.4, 75),
        (6, ("gpt2-small", ""), "lipschitz_hat, median", "value", 0.0014, 0.002),
        (7, ("gemma-2-2b", ""), "bound_holds, rate_pct", "value", 95, 90),
        (8, GPT2_IOI, "", "ig_top5_rel_error_pct", 3.3, 5),
        (8, GPT2_IOI, "", "reported_abs_difference_pp", 0.34, 2),
        (8, GPT2_IOI, "", "ms_hvp_top5_rel_error_pct", 2.97, 3),
        (8, GPT2_IOI, "", "ms_hvp_cost", 10, 10),
        (8, GPT2_IOI, "", "ig_cost", 10, 10),
        (9, GPT2_IOI, "ih_dr, cost=18", "top5_rel_error_pct", 9.81, 7),
        (9, GPT2_IOI, "ih_pi, cost=10", "reported_abs_change_vs_ap_pp", 7.03, 12),
        (10, GPT2_IOI, "k=5", "gim_overlap_pct", 74.8, 50),
        (10, GPT2_IOI, "k=10", "ap_overlap_pct", 93.2, 200 / 3),
        (10, GPT2_IOI, "k=5", "reported_abs_difference_pp", 12.8, 100 / 6),
        (10, GPT2_IOI, "k=5", "difference_sign_inferred", -1, -1),
        (11, ("gpt2-small", "factual"), "attention_head", "ap_error_pct", 5.1, 20),
        (11, ("gpt2-small", "factual"), "attention_head", "n_records", 5760, 615),
        (12, GPT2_IOI, "zero", "ap_median_error_pct", 13.2, 20),
        (12, GPT2_IOI, "resample", "hvp_median_error_pct", 0.9, 10),
        (12, GPT2_IOI, "zero", "reduction_pct", 83.5, 50),
        (13, ("gpt2-small", "entity_swap"), "hvp", "mae", 0.00156, 0.001),
        (13, ("gpt2-small", "entity_swap"), "hvp", "error_reduction_pct", 54.1, 75),
        (13, ("gpt2-small", "entity_swap"), "ap", "n_heads_total", 144, 2),
        (13, ("gpt2-small", "entity_swap"), "ap", "n_records", 7056, 12),
        (14, ("gpt2-small", ""), "eap", "n_edges", 32491, 32491),
        (14, ("gpt2-small", ""), "eap", "attribution_seconds", 1.6, 3),
        (14, ("gpt2-small", ""), "hvp", "attribution_seconds", 5.8, 5),
        (15, GPT2_IOI, "hvp", "kendall_tau", 0.567, 0.6),
        (15, GPT2_IOI, "gim", "ndcg_at_5", 1, 0.9),
        (15, GPT2_IOI, "ih_dr", "ndcg_at_10", 0.934, 0.8),
        (15, GPT2_IOI, "ap", "ndcg_at_20", 0.968, 0.7),
        (15, GPT2_IOI, "ap", "n_heads_total", 144, 144),
        (18, GPT2_IOI, "ap, k=10", "topk_overlap_pct", 80, 90),
    ],
)
def test_the_right_numbers_meet(joined, table, setting, row, cell, printed, ours):
    found = only(joined, table=table, model=setting[0], task=setting[1], row=row, cell=cell)
    assert (found["published"], found["ours"]) == pytest.approx((printed, ours))
    assert found["difference"] == pytest.approx(ours - printed, rel=1e-6, abs=1e-12)
    assert found["ratio"] == pytest.approx(ours / printed)


def test_intervals_and_p_values_are_those_of_the_tables(joined, tables):
    hvp = only(tables[3], site="attn_heads", method="hvp")
    assert hvp["ci_low"] < hvp["ci_high"]
    for end in ("low", "high"):
        found = only(joined, table=3, row="attention_head, hvp", cell=f"error_ci_{end}_pct")
        assert found["ours"] == pytest.approx(hvp[f"ci_{end}"])
    found = only(joined, table=8, model="gpt2-small", task="ioi", cell="p_value")
    assert (found["published"], found["ours"]) == pytest.approx((0.001, tables[8]["p"].iloc[0]))


def test_a_published_zero_has_a_difference_and_no_ratio(joined):
    exact = joined[(joined["row"] == "attention_head, truth") & (joined["cell"] == "error_pct")]
    assert list(exact["difference"]) == [0]
    assert exact["ratio"].isna().all()


def test_another_corruption_than_the_usual_is_not_the_papers(papers, tables):
    repeated = [column for column in tables[8] if column.startswith("published")]
    other = tables[8].assign(corruption="abc", **dict.fromkeys(repeated))
    frame = comparison(through_files(tables | {8: other}), papers, "mine")
    assert frame.loc[frame["table"] == 8, "ours"].isna().all()
    assert frame.loc[frame["table"] != 8, "ours"].notna().sum() > 100


def test_gaps_say_why(joined):
    def reasons(table, **where):
        rows = joined[joined["table"] == table]
        for column, value in where.items():
            rows = rows[rows[column] == value]
        return set(rows["reason"])

    absent = "profile 'paper' does not compute this model and task for this table"
    assert reasons(2, model="pythia-410m") == {absent}
    assert reasons(3, row="attention_head, atp_star", cell="error_pct") == {
        "not computed: empty in tables/table3.csv"
    }
    assert reasons(3, row="pre_act_neuron, hvp", cell="error_pct") == {
        "not computed: no such row in tables/table3.csv"
    }
    assert reasons(12, model="pythia-1b") == {NO_TASK}


def test_table_2_gives_its_own_reasons(papers):
    table = make_table2(papers, errors(*GPT2_IOI).query("estimator != 'gim'"))
    assert set(table.loc[table["method"] == "gim", "missing_reason"]) == {"not computed"}
    reason = "switched off in the config"
    other = table.assign(missing_reason=table["missing_reason"].where(lambda t: t.isna(), reason))
    frame = comparison({2: other}, papers, "paper")
    found = frame[frame["reason"] == reason]
    assert list(found["cell"]) == ["top5_rel_error_pct"]
    assert list(found["row"]) == ["gim"]


def test_a_table_that_was_not_made_is_named(papers, tables):
    made = {number: frame for number, frame in tables.items() if number != 9}
    frame = comparison(made, papers, "paper")
    assert set(frame.loc[frame["table"] == 9, "reason"]) == {"tables/table9.csv was not made"}


def test_without_the_papers_models_every_number_has_a_reason(embedded):
    assert embedded["ours"].isna().all()
    assert set(embedded["reason"]) == {
        "profile 'embedded' does not compute this model and task for this table; "
        "config/paper.yaml does",
        LOST,
        NO_TASK,
    }


def test_the_paper_profile_computes_what_the_reasons_say(embedded):
    config = {}
    for name in ("config", "paper"):
        update_config(config, yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()))
    claimed = embedded[embedded["reason"].str.endswith("config/paper.yaml does")]
    assert set(claimed["table"]) == {2, 3, 4, *range(6, 19)}
    for table, rows in claimed.groupby("table"):
        settings = artefacts.artefact(config, load_table(f"table{table}")).settings
        parsed = [Setting.parse(name) for name in settings]
        computed = {(setting.model, setting.task) for setting in parsed}
        if table in (6, 7, 14):  # these do not name their task
            computed = {(model, "") for model, _ in computed}
        assert set(zip(rows["model"], rows["task"], strict=True)) <= computed


def test_sentences_count(joined, embedded):
    assert summary_sentence(embedded).startswith(
        f"{len(embedded)} published numbers, 0 compared | "
    )
    absent = embedded["reason"].str.startswith("profile 'embedded'").sum()
    assert f" | {absent} profile 'embedded' does not compute" in summary_sentence(embedded)
    assert f" published numbers, {joined['ours'].notna().sum()} compared" in summary_sentence(
        joined
    )
    assert "Table 8: 6 of 54 compared" in table_sentences(joined)
    assert len(table_sentences(joined)) == len(NUMBERED)


def test_tables_that_do_not_fit_are_refused(papers, tables):
    with pytest.raises(ReportError, match="Table 1 has nothing to compare"):
        comparison({1: tables[2]}, papers, "paper")
    with pytest.raises(ReportError, match="Table 5 has nothing to compare"):
        comparison({5: tables[2]}, papers, "paper")
    with pytest.raises(ReportError, match="the published Table 16 is missing"):
        comparison(tables, {n: paper for n, paper in papers.items() if n != 16}, "paper")
    with pytest.raises(ReportError, match=r"tables/table9\.csv lacks vs_ap_pp: make"):
        comparison({9: tables[9].drop(columns="vs_ap_pp")}, papers, "paper")
    with pytest.raises(ReportError, match=r"tables/table15\.csv lacks ndcg_at_20: make"):
        comparison({15: tables[15].drop(columns="ndcg_at_20")}, papers, "paper")
    with pytest.raises(ReportError, match=r"table18\.csv has two rows for gpt2-small / ioi / ap"):
        comparison({18: pd.concat([tables[18], tables[18]])}, papers, "paper")


@pytest.mark.parametrize("value", [2.96, float("nan")])
def test_a_published_number_that_ours_repeats_must_be_the_same(papers, tables, value):
    ours = tables[2].copy()
    ours.loc[ours["method"] == "ms_hvp", "published_pct"] = value
    with pytest.raises(
        ReportError,
        match=r"tables/table2\.csv says that the paper prints (2\.96|nan) for gpt2-small, ioi, "
        r"ms_hvp, top5_rel_error_pct, data/published has 2\.97: make the table again",
    ):
        comparison({2: ours}, papers, "paper")


def write_table(folder, number, provenance, **changes):
    path = folder / f"table{number}.csv"
    frame = pd.DataFrame({"model": ["mine"], "note": ["a # b"]})
    text = csv_text(frame, provenance)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_our_files_say_how_they_were_made(tmp_path, provenance):
    ours = "smollm2-135m/ioi: 9, smollm2-135m/ioi/zero: 5, gemma-3-270m/greater_than: 4,"
    more = ("smollm2-135m/ioi: 2,", ours)
    paths = [write_table(tmp_path, 2, provenance), write_table(tmp_path, 12, provenance, more=more)]
    made = read_our_tables(paths, "embedded")
    assert list(made.frames) == [2, 12]
    assert made.frames[12]["note"].iloc[0] == "a # b"
    assert made.effort == "quick"
    assert made.models == ("smollm2-135m",)
    assert made.prompts == {
        Setting("smollm2-135m", "ioi"): 2,
        Setting("smollm2-135m", "factual"): 3,
        Setting("smollm2-135m", "ioi", "zero"): 5,
        Setting("gemma-3-270m", "greater_than"): 4,
    }
    assert made.environments == ""


def test_the_comparison_names_every_environment_of_the_tables(tmp_path, provenance):
    lines = ("computed with torch 1 on cpu (a)", "computed with torch 2 on cpu (a)")
    paths = [
        write_table(tmp_path, number, replace(provenance, environments=line))
        for number, line in zip((2, 3, 4), (*lines, lines[0]), strict=True)
    ]
    assert read_our_tables(paths, "embedded").environments == (
        "computed with 2 environments: torch 1 on cpu (a); torch 2 on cpu (a)"
    )


def test_files_of_other_profiles_efforts_or_names_are_refused(tmp_path, provenance):
    path = write_table(tmp_path, 2, provenance)
    with pytest.raises(ReportError, match=r"table2\.csv is of profile 'embedded', not of 'paper'"):
        read_our_tables([path], "paper")
    other = write_table(tmp_path, 3, provenance, effort=("effort: quick", "effort: paper"))
    with pytest.raises(ReportError, match=r"one effort .*table2\.csv \(quick\), .* \(paper\)"):
        read_our_tables([path, other], "embedded")
    with pytest.raises(ReportError, match="one effort can be compared, got no tables"):
        read_our_tables([], "embedded")
    plain = tmp_path / "table4.csv"
    plain.write_text("model\nmine\n", encoding="utf-8")
    with pytest.raises(ReportError, match=r"table4\.csv does not say how it was made"):
        read_our_tables([str(plain)], "embedded")
    with pytest.raises(ReportError, match=r"tables/frontier\.csv is no numbered table"):
        table_number("tables/frontier.csv")
    assert (table_number("data/published/table02.csv"), table_number("table18.csv")) == (2, 18)
