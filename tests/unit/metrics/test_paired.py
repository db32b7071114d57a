import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hvp_patching.aggregates import FRAMES
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.paired import marks, paired, paired_comparison, tally
from hvp_patching.metrics.resampling import paired_bootstrap_p, smallest_p


def errors(column="top_k_relative_error", **by_estimator):
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "prompt_id": [f"p{i}" for i in range(len(values))],
                    "estimator": name,
                    "cost": 10,
                    column: values,
                }
            )
            for name, values in by_estimator.items()
        ],
        ignore_index=True,
    )


RNG = np.random.default_rng(7)
IG = RNG.uniform(0.1, 0.5, size=30)
BETTER = IG - RNG.uniform(0.01, 0.05, size=30)
SIMILAR = IG + RNG.permutation(np.linspace(-0.05, 0.052, 30))


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [("better", "ig", "win"), ("ig", "better", "loss"), ("similar", "ig", "tie")],
)
def test_verdicts(first, second, verdict):
    table = errors(ig=IG, better=BETTER, similar=SIMILAR)
    row = paired_comparison(table.sample(frac=1, random_state=0), first, second, 1000, 0)
    values = {"ig": IG, "better": BETTER, "similar": SIMILAR}
    assert row["verdict"] == verdict
    assert (row["first"], row["second"], row["n_prompts"]) == (first, second, 30)
    assert row["first_value"] == pytest.approx(values[first].mean())
    assert row["second_value"] == pytest.approx(values[second].mean())
    assert row["difference"] == pytest.approx(values[first].mean() - values[second].mean())
    assert (row["p"] < 0.05) == (verdict != "tie")
    assert (row["ci_low"] < 0 < row["ci_high"]) == (verdict == "tie")


def test_large_samples_agree_with_the_paired_t_test():
    draw = np.random.default_rng(3)
    theirs = draw.normal(1, 0.2, size=800)
    gap = draw.normal(0, 0.2, size=800)
    ours = theirs + gap - gap.mean() + 0.012
    row = paired_comparison(errors(a=ours, b=theirs), "a", "b", n_resamples=10_000, seed=0)
    expected = stats.ttest_rel(ours, theirs)
    assert 0.05 < expected.pvalue < 0.15
    assert row["p"] == pytest.approx(expected.pvalue, abs=0.02)
    interval = expected.confidence_interval(0.95)
    assert row["ci_low"] == pytest.approx(interval.low, abs=0.001)
    assert row["ci_high"] == pytest.approx(interval.high, abs=0.001)


def test_alpha_moves_verdict_and_interval():
    draw = np.random.default_rng(3)
    theirs = draw.normal(1, 0.2, size=800)
    table = errors(a=theirs - 0.013 - draw.normal(0, 0.2, size=800), b=theirs)
    strict, lax = (paired_comparison(table, "a", "b", 2000, 0, alpha) for alpha in (0.001, 0.4))
    assert (strict["verdict"], lax["verdict"]) == ("tie", "win")
    assert strict["ci_low"] < lax["ci_low"] < lax["ci_high"] < strict["ci_high"]


def test_one_prompt_is_undecided_without_interval():
    row = paired_comparison(errors(a=[0.1], b=[0.5]), "a", "b")
    assert (row["verdict"], row["decidable"], row["p_smallest"]) == ("undecided", False, 1.0)
    assert np.isnan([row["p"], row["ci_low"], row["ci_high"]]).all()
    assert row["difference"] == pytest.approx(-0.4)


def test_another_column():
    table = errors("median_relative_error", a=[0.1, 0.2], b=[0.5, 0.3])
    row = paired_comparison(table, "a", "b", column="median_relative_error")
    assert row["difference"] == pytest.approx(-0.25)


def test_comparisons_need_both_on_every_prompt():
    table = errors(a=[0.1, 0.2, 0.3], b=[0.5, 0.3])
    with pytest.raises(ScoresError, match="no errors of 'ig_10': add it to the estimators"):
        paired_comparison(table, "a", "ig_10")
    with pytest.raises(ScoresError, match="'b' has no top_k_relative_error for prompt 'p2'"):
        paired_comparison(table, "a", "b")


def test_every_estimator_is_set_against_every_reference_that_was_scored():
    table = errors(ap=IG, ig=IG, better=BETTER)
    found = paired(table, ["ap", "ig", "gone"], n_resamples=500)
    assert tuple(found.columns) == tuple(FRAMES["paired"].columns)
    assert list(zip(found["first"], found["second"], strict=True)) == [
        ("ig", "ap"), ("better", "ap"), ("ap", "ig"), ("better", "ig"),
    ]  # fmt: skip
    one = paired_comparison(table, "better", "ap", 500, 0)
    assert found.iloc[1].to_dict() == one
    assert paired(table, ["gone"]).empty


def test_groups_without_any_value_are_left_out():
    parts = [errors("overlap", a=[0.2, 0.4], ap=[0.2, 0.2]).assign(k=5)]
    parts.append(errors("overlap", a=[np.nan] * 2, ap=[np.nan] * 2).assign(k=10))
    found = paired(pd.concat(parts), ["ap"], column="overlap", by=["k"])
    assert found["k"].tolist() == [5]
    assert found["difference"].item() == pytest.approx(0.1)


def test_more_overlap_is_a_win_where_higher_is_better():
    table = errors("overlap", ap=IG, better=BETTER)
    found = paired(table, ["ap"], column="overlap", higher_is_better=True, n_resamples=500)
    assert found["verdict"].tolist() == ["loss"]
    assert found["difference"].item() < 0
    assert paired(table, ["ap"], column="overlap", n_resamples=500)["verdict"].tolist() == ["win"]


@pytest.mark.parametrize(("n", "verdict"), [(2, "undecided"), (5, "undecided"), (6, "win")])
def test_no_win_where_so_few_prompts_cannot_decide(n, verdict):
    row = paired_comparison(errors(a=BETTER[:n], b=IG[:n]), "a", "b")
    assert row["p"] < 0.05  # the bootstrap alone would give a star
    assert row["verdict"] == verdict
    assert row["decidable"] == (verdict != "undecided")
    assert row["p_smallest"] == pytest.approx(max(2 * 0.5**n, 2 / 1001))


def test_prompts_on_which_both_agree_decide_nothing():
    rest = [0.2] * 40
    five = paired_comparison(errors(a=[*BETTER[:5], *rest], b=[*IG[:5], *rest]), "a", "b")
    six = paired_comparison(errors(a=[*BETTER[:6], *rest], b=[*IG[:6], *rest]), "a", "b")
    assert (five["n_prompts"], five["verdict"]) == (45, "undecided")
    assert (six["n_prompts"], six["verdict"]) == (46, "win")
    # a difference of rounding alone is none
    near = errors(a=[*BETTER[:5], *rest], b=[*IG[:5], *np.nextafter(rest, 1)])
    assert not paired_comparison(near, "a", "b")["decidable"]


def compared(p, model="m", first="a", second="b", p_smallest=0.002, **more):
    own = {"model": model, "task": "ioi", "corruption": "", "first": first, "second": second}
    own |= dict.fromkeys(("first_value", "second_value", "ci_low", "ci_high"), 0.0)
    decided = p_smallest < 0.05
    verdict = ("win" if p < 0.05 else "tie") if decided else "undecided"
    own |= {"difference": -0.1, "p": p, "p_smallest": p_smallest, "decidable": decided}
    return own | {"n_prompts": 9, "verdict": verdict} | more


def test_benjamini_and_hochbergs_own_example():
    # Benjamini and Hochberg (1995), section 3.2: of 15 p-values the four smallest are rejected
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    rows = pd.DataFrame([compared(value, f"m{i}", p_smallest=1e-9) for i, value in enumerate(p)])
    found = marks(rows.sample(frac=1, random_state=1), ["a"], "b").sort_index()
    assert FRAMES["marks"].check(found) is found
    assert found["survives"].tolist() == [True] * 4 + [False] * 11
    assert (found["verdict"] == "win").sum() == 9
    # q_i is the least of 15 p_j / j over j >= i, by hand
    assert found["q"][:5].tolist() == pytest.approx([0.0015, 0.003, 0.0095, 0.035625, 0.0603])
    assert found["q"][14] == 1.0


def test_only_decidable_comparisons_of_the_table_are_counted():
    rows = pd.DataFrame(
        [
            compared(0.04, "one"),
            compared(0.002, "two", p_smallest=0.03125),
            compared(0.002, "three", p_smallest=0.0625),
            compared(float("nan"), "four", p_smallest=1.0),
            *(compared(1.0, "five", first="else") for _ in range(50)),
            *(compared(1.0, "five", second="ig_10") for _ in range(50)),
        ]
    )
    found = marks(rows, ["a"], "b")
    assert found["model"].tolist() == ["one", "two", "three", "four"]
    # two tests, of 0.04 and 0.03125 (no smaller p exists at that n): 0.04 * 2 / 2 for both
    assert found["q"].tolist() == pytest.approx([0.04, 0.04, np.nan, np.nan], nan_ok=True)
    assert found["survives"].tolist() == [True, True, False, False]
    nothing = marks(rows, ["gone"], "b")
    assert nothing.empty
    assert FRAMES["marks"].check(nothing) is nothing


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([2 ** (1 - m) for m in range(1, 12)])),
        max_size=30,
    )
)
def test_what_survives_was_marked_before(drawn):
    rows = pd.DataFrame([compared(p, f"m{i}", p_smallest=s) for i, (p, s) in enumerate(drawn)])
    if rows.empty:
        return
    found = marks(rows, ["a"], "b")
    raw = found["verdict"].isin(["win", "loss"])
    assert not (found["survives"] & ~raw).any()
    assert found["q"].notna().tolist() == found["decidable"].tolist()
    assert (found["q"] >= found["p"])[found["decidable"]].all()


def test_where_neither_is_better_few_tables_have_a_survivor():
    """In 200 tables of 20 comparisons without any difference."""
    draw = np.random.default_rng(5)
    zero, starred, surviving = np.zeros(8), 0, 0
    for _ in range(200):
        rows = []
        for i, values in enumerate(draw.normal(size=(20, 8))):
            p = paired_bootstrap_p(values, zero, n_resamples=200)
            rows.append(compared(p, f"m{i}", p_smallest=smallest_p(values, zero, 200)))
        found = marks(pd.DataFrame(rows), ["a"], "b")
        starred += (found["verdict"] == "win").any()
        surviving += found["survives"].any()
    assert starred > 100
    assert surviving < 20


def test_a_tally_counts_verdicts_signs_and_what_survives():
    few = paired(errors(a=[0.1, 0.2], b=[0.3, 0.4], c=[0.2, 0.39]), ["b"], n_resamples=500)
    many = paired(errors(a=IG, b=BETTER, c=BETTER + 1e-14), ["b"], n_resamples=500)
    rows = pd.concat([few, many])
    assert rows["verdict"].tolist() == ["undecided", "undecided", "loss", "undecided"]
    (row,) = tally(marks(rows, ["a", "c"], "b"), ["a", "c"], "b").to_dict("records")
    assert (row["n"], row["wins"], row["ties"], row["losses"], row["undecided"]) == (4, 0, 0, 1, 3)
    # a difference of rounding alone is none
    assert (row["lower"], row["lower_sure"], row["higher"], row["higher_sure"]) == (2, 0, 1, 1)
    assert (row["lower_survives"], row["higher_survives"]) == (0, 1)
    assert row["smallest"] == pytest.approx(-0.2)
    assert row["largest"] == pytest.approx((IG - BETTER).mean())
    (none,) = tally(marks(rows, ["d"], "b"), ["d"], "b").to_dict("records")
    assert none["n"] == none["lower"] == 0
    assert np.isnan(none["largest"])
