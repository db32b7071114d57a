"""Table 14: our seconds for edges, the paper's beside, and what is projected."""

import pandas as pd
import pytest

from hvp_patching.reporting.comparison import comparison
from hvp_patching.reporting.tables.table14 import TABLE
from hvp_patching.settings import Setting

SECONDS = {
    "eap": ("prompt", 1.0),
    "eap_ig_inputs_5": ("prompt", 3.0),
    "hvp_joint": ("prompt", 1.5),
    "ms_hvp_joint_5": ("prompt", 6.0),
    "hvp_joint_flagged": ("prompt", 2.0),
    "hvp_own": ("edge", 20000.0),
    "exact": ("edge", 5000.0),
    "selective_own_100": ("prompt", 20.0),
}


def costs(name, **changed):
    rows = [
        {
            "method": method,
            "per": per,
            "n_prompts": 100,
            "n_timed": 100 if per == "prompt" and method != "selective_own_100" else 3,
            "n_layers": 12,
            "n_edges": 32491,
            "seconds_all": seconds,
            "all_low": 0.9 * seconds,
            "all_high": 1.1 * seconds,
            "captures": 0.5,
            "total_seconds": 100 * (seconds + 0.5),
            "overhead": (seconds + 0.5) / 1.5,
            "flagged_share": 0.8 if "hvp" in method else float("nan"),
            "projected": per == "edge" or method == "selective_own_100",
            "place": "cpu (some processor), 2 threads",
        }
        for method, (per, seconds) in SECONDS.items()
    ]
    return pd.DataFrame(rows).assign(**vars(Setting.parse(name)), **changed)


@pytest.fixture
def made(show):
    return lambda *names: show(
        "table14", options={"tau": 0.5}, edge_costs=pd.concat(map(costs, names))
    )


def test_the_papers_rows_stand_beside_their_methods(made):
    frame = made("gpt2-small/ioi").frame.set_index("method")
    assert list(made("gpt2-small/ioi").frame.columns) == TABLE.columns.split()
    published = frame["published_attribution_seconds"].dropna().to_dict()
    assert published == {
        "eap": 1.6,
        "eap_ig_inputs_5": 4.9,
        "hvp_joint": 5.8,
        "ms_hvp_joint_5": 4.5,
        "hvp_joint_flagged": 1.9,
    }
    assert frame["published_flagged_pct"].dropna().to_dict() == {"hvp_joint_flagged": 7}
    assert frame["flagged_pct"]["hvp_joint"] == 80


def test_other_models_stand_beside_the_papers_but_are_not_compared(made, paper, provenance):
    shown = made("smollm2-135m/ioi", "qwen2.5-coder-0.5b/ioi")
    frame = shown.frame.set_index(["model", "method"])
    assert frame["published_attribution_seconds"]["smollm2-135m", "eap"] == 1.6
    assert frame["published_attribution_seconds"]["qwen2.5-coder-0.5b", "eap"] == 5.9
    text = TABLE.tex(shown, provenance)
    assert "GPT-2 small beside SmolLM2-135M" in text
    assert "Qwen2.5-0.5B beside Qwen2.5-Coder-0.5B" in text
    assert "some processor" in text
    assert "single GPU" in text
    published = {n: paper(n) for n in (2, 3, 4, *range(6, 19))}
    joined = comparison({14: shown.frame}, published, "embedded")
    assert joined["ours"].isna().all()
    own = comparison({14: made("gpt2-small/ioi").frame}, published, "paper")
    found = own[(own["table"] == 14) & own["ours"].notna()].set_index(["row", "cell"])
    assert found["ours"]["eap", "attribution_seconds"] == pytest.approx(150)
    assert found["ours"]["eap", "n_edges"] == 32491
    assert found["ours"]["selective_hvp", "flagged_pct"] == pytest.approx(80)


def test_projections_are_italic_and_what_is_not_flagged_has_a_dash(made, provenance):
    text = TABLE.tex(made("gpt2-small/ioi"), provenance)
    (own,) = (line for line in text.splitlines() if line.startswith("HVP (own)"))
    assert r"\textit" in own
    (eap,) = (line for line in text.splitlines() if line.startswith("EAP &"))
    assert r"\textit" not in eap
    assert "--" in eap
    assert "nan" not in text


def test_it_compiles(made, provenance, compiles):
    compiles(TABLE.tex(made("smollm2-135m/ioi", "qwen2.5-coder-0.5b/ioi"), provenance))


def test_it_is_a_page(made, provenance):
    assert "All prompts (s)" in TABLE.html(made("smollm2-135m/ioi"), provenance)
