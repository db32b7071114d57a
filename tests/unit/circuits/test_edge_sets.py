"""Sets of edges patched together: exact effects, and derivatives against finite differences."""

from __future__ import annotations

import pytest
import torch

import hvp_patching as hp
from hvp_patching.circuits.ablation import ablated_logits
from hvp_patching.circuits.edge_run import edge_run
from hvp_patching.circuits.edge_sets import set_effects
from hvp_patching.circuits.faithfulness import judged
from hvp_patching.circuits.graph import graph_of
from hvp_patching.circuits.ungrouped import edge_model

from .conftest import FAMILIES, STEPS, limit

PAIR = ("input->m0", "a0.h1->a1.h2<q>", "m0->m1", "m1->logits")


def sets_of(graph):
    chance = torch.rand(graph.mask.shape, generator=torch.Generator().manual_seed(0))
    return {
        "few": graph.select(PAIR),
        "half": graph.mask & (chance < 0.5),
        "one": graph.select("input->m0"),
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_the_joint_effect_is_the_ablation_of_the_circuit_without_the_set(tiny, edge_pair, name):
    model = tiny(name)
    graph = graph_of(model)
    sets = sets_of(graph)
    found = set_effects(model, edge_pair, sets, ["ap"]).set_index("set")
    rest = judged(model, edge_pair, {key: graph.mask & ~kept for key, kept in sets.items()})
    wanted = rest.set_index("circuit").eval("m - m_clean")
    for key, kept in sets.items():
        assert found["exact"][key] == pytest.approx(wanted[key], abs=1e-10)
        assert abs(wanted[key]) > 1e-4
        assert found["n_edges"][key] == int(kept.sum())
    alone = hp.edge_scores(model, edge_pair, "exact", edges=["input->m0"])
    assert found["exact"]["one"] == pytest.approx(float(alone.matrix.sum()), abs=1e-10)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "tiny-gemma2"])
def test_the_slope_of_a_set_is_the_sum_of_its_edges(tiny, edge_pair, name):
    scores = hp.edge_scores(tiny(name), edge_pair)
    sets = sets_of(scores.graph)
    found = set_effects(tiny(name), edge_pair, sets, ["ap"]).set_index("set")
    for key, kept in sets.items():
        assert found["ap"][key] == pytest.approx(float(scores.matrix[kept].sum()), abs=1e-10)


@pytest.mark.parametrize("name", ["tiny-pythia", "tiny-gemma2", "tiny-llama"])
def test_derivatives_of_a_set_are_finite_differences_of_partial_ablations(tiny, edge_pair, name):
    model = tiny(name)
    sets = {key: kept for key, kept in sets_of(graph_of(model)).items() if key != "one"}
    found = set_effects(model, edge_pair, sets, ["ap", "hvp"]).set_index("set")
    steps = torch.cat([STEPS, -STEPS, torch.zeros(1)]) / 4
    with edge_model(model) as hooked, torch.no_grad():
        run = edge_run(hooked, edge_pair, graph_of(model), hp.logit_difference())
        for key, kept in sets.items():
            logits = ablated_logits(run, kept.double() * steps.double().view(-1, 1, 1))
            up, down, zero = run.run.metric(logits).split([3, 3, 1])
            slope = limit((up - down) / (STEPS / 2))
            bend = limit((up + down - 2 * zero) / (STEPS / 4) ** 2)
            assert found["ap"][key] == pytest.approx(slope, rel=1e-6, abs=1e-7)
            assert found["hvp"][key] == pytest.approx(slope + bend / 2, rel=1e-4, abs=1e-5)
            assert abs(bend) > 1e-3


def test_rules_converge_to_the_joint_effect(tiny, edge_pair):
    model = tiny("tiny-qwen2")
    sets = {"few": graph_of(model).select(PAIR)}
    found = set_effects(model, edge_pair, sets, ["ap", "gl_24", "ms_hvp_20"], memory=1)
    assert found["gl_24"][0] == pytest.approx(found["exact"][0], abs=1e-4)
    assert abs(found["ap"][0] - found["exact"][0]) > 1e-2


@pytest.mark.parametrize(
    ("sets", "rules", "said"),
    [
        ({}, ["ap"], "no prompt pairs or no sets"),
        ({"a": ["m1->m0"]}, ["ap"], "there is no edge"),
        ({"a": PAIR}, ["eap"], "unknown estimator 'eap'"),
    ],
)
def test_bad_requests_are_refused_in_one_line(tiny, edge_pair, sets, rules, said):
    with pytest.raises(ValueError, match=said):
        set_effects(tiny("tiny-gpt2"), edge_pair, sets, rules)
