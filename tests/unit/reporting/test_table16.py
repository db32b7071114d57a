"""Table 16: areas of circuits, and what stands where a model does not do the task."""

import pandas as pd
import pytest

from hvp_patching.reporting.comparison import comparison
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.tables.table16 import TABLE
from hvp_patching.settings import Setting

METHODS = {"eap": 0.4, "hvp_joint": 0.5, "ms_hvp_joint_5": 0.6, "selective_exact_100": 0.7}


def circuits(name, able=True, cpr=METHODS):
    """Without a row where the model cannot."""
    rows = [
        {
            "method": method,
            "selection": selection,
            "n_prompts": 50,
            **{
                f"{area}{end}": value + shift
                for area in ("cpr", "cmd", "average")
                for end, shift in (("", 0.0), ("_low", -0.1), ("_high", 0.1))
            },
        }
        for method, value in cpr.items()
        for selection in ("signed", "absolute")
    ]
    frame = pd.DataFrame(rows).assign(**vars(Setting.parse(name)))
    return frame if able else frame.iloc[:0]


def ability(name, able, accuracy=0.9):
    row = {"n_prompts": 100, "accuracy": accuracy, "chance": 0.25, "able": able}
    return pd.DataFrame([row]).assign(**vars(Setting.parse(name)))


@pytest.fixture
def made(show):
    def make(**able):
        names = {task: f"qwen2.5-0.5b/{task}" for task in able}
        return show(
            "table16",
            options={"circuit_methods": list(METHODS)},
            circuit_summary=pd.concat([circuits(names[task], able[task]) for task in able]),
            ability=pd.concat([ability(names[task], can) for task, can in able.items()]),
        )

    return make


def test_signed_rows_stand_beside_the_papers(made):
    frame = made(ioi=True).frame
    assert list(frame.columns) == TABLE.columns.split()
    signed = frame[frame["selection"] == "signed"].set_index("method")
    assert signed["published_cpr"].to_dict() == pytest.approx(
        {
            "eap": 0.263,
            "hvp_joint": float("nan"),
            "ms_hvp_joint_5": float("nan"),
            "selective_exact_100": float("nan"),
        },
        nan_ok=True,
    )
    assert frame.loc[frame["selection"] == "absolute", "published_cpr"].isna().all()
    assert signed["cpr"].to_dict() == pytest.approx(METHODS)


def test_a_model_that_does_not_do_the_task_has_one_line_and_no_areas(made, provenance):
    shown = made(ioi=True, mcqa=False)
    unable = shown.frame["task"] == "mcqa"
    assert shown.frame.loc[unable, ["cpr", "cmd_low", "average_high"]].isna().all(axis=None)
    assert set(shown.frame.loc[unable, "missing_reason"]) == {"the model does not do the task"}
    assert shown.frame.loc[~unable, "cpr"].notna().all()
    text = TABLE.tex(shown, provenance)
    assert text.count("does not do the task") == 1
    assert "by chance 25" in text
    assert text.count("not shown") == 1
    assert "0.853" not in text  # the paper's number stands beside none of ours
    assert "nan" not in text


def test_it_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made(ioi=True, mcqa=False), provenance))


def test_circuits_that_are_missing_are_not_taken_for_a_model_that_cannot(show):
    with pytest.raises(ReportError, match="no circuits were judged"):
        show(
            "table16",
            options={"circuit_methods": ["eap"]},
            circuit_summary=circuits("qwen2.5-0.5b/ioi", able=False),
            ability=ability("qwen2.5-0.5b/ioi", True),
        )


def test_a_model_that_cannot_says_so_beside_every_number_of_the_paper(made, paper):
    published = {n: paper(n) for n in (2, 3, 4, *range(6, 19))}
    joined = comparison({16: made(ioi=True, mcqa=False).frame}, published, "paper")
    own = joined[(joined["table"] == 16) & (joined["model"] == "qwen2.5-0.5b")]
    cannot = own[(own["task"] == "mcqa") & (own["row"] == "eap")]
    assert set(cannot["reason"]) == {"the model does not do the task"}
    assert cannot["ours"].isna().all()
    assert own.loc[(own["task"] == "ioi") & (own["row"] == "eap"), "ours"].notna().all()


def test_labels_have_their_numbers(made, provenance):
    text = TABLE.tex(made(ioi=True), provenance)
    assert "EAP, 100 edges patched" in text
    assert "MS-HVP (joint), 5" in text
