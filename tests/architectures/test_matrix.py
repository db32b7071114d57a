"""Every cell of the architecture matrix agrees with the oracle or refuses in one line.

One architecture of each kind runs in CI; all of them by `pytest -m matrix`.
"""

from __future__ import annotations

import math

import pytest

import hvp_patching as hp

from . import expected
from .cells import Expected, cells, compare, expectation, prompt_pair
from .configs import UNBUILDABLE, Architecture, architectures, build, model_types, tokenizer
from .oracle import Derivatives, differences

# One of each kind.
REPRESENTATIVES = (
    "llama",  # pre-norm, gated MLP, grouped queries
    "gpt2",  # Conv1D, learnt positions
    "gptj",  # attention and MLP in parallel, interleaved rotary
    "bloom",  # alibi
    "gemma2",  # norms after attention and MLP, soft caps, sliding windows
    "mixtral",  # experts
    "deepseek_v3",  # latent attention; experts in some layers
    "mamba",  # no attention
    "falcon",  # one key-value head, in-place residual
    "phi3+longrope",  # keys that depend on the prompt's length
    "opt",  # no module around the MLP, positions flattened
)


def all_architectures():
    for architecture in architectures():
        marks = () if str(architecture) in REPRESENTATIVES else (pytest.mark.matrix,)
        yield pytest.param(architecture, marks=marks, id=str(architecture))


@pytest.mark.parametrize("architecture", all_architectures())
def test_every_cell_is_as_expected(architecture):
    wanted = {(r.site, r.backend): r for r in expected.read() if r.architecture == architecture}
    found = list(cells(architecture))
    for cell in found:
        print("MATRIX", architecture, cell.site, cell.backend, cell.outcome, f"{cell.worst:.1e}")
    wrong = [f"{c.site} {c.backend}: {c.reason}" for c in found if c.outcome == "fails"]
    assert not wrong, "\n".join(wrong)
    assert {(c.site, c.backend) for c in found} == set(wanted)
    for cell in found:
        row = wanted[cell.site, cell.backend]
        assert (cell.outcome, cell.meaning) == (row.outcome, row.meaning), cell
        assert row.reason in cell.reason


def test_the_table_has_every_class_that_the_bridge_knows():
    tried = {row.model_type for row in expected.read()}
    assert tried | set(UNBUILDABLE) == set(model_types())
    assert {row.architecture for row in expected.read()} == set(architectures())
    agreeing = {row.config for row in expected.read() if row.outcome == "agrees"}
    assert len(agreeing) >= 40


def test_a_refusal_has_a_reason_and_nothing_else_is_expected():
    for row in expected.read():
        assert row.outcome in {"agrees", "refuses"}
        assert bool(row.reason) == (row.outcome == "refuses"), row
        assert row.meaning or row.outcome == "refuses", row


def test_the_page_of_the_documentation_is_up_to_date():
    assert expected.PAGE.read_text(encoding="utf-8") == expected.page(expected.read()), (
        "run: python -m tests.architectures"
    )


@pytest.mark.parametrize("kind", ["helium", "persimmon", "biogpt"])
def test_a_class_that_the_bridge_does_not_know_is_refused_by_name(kind):
    model = build(Architecture(kind))
    with pytest.raises(ValueError, match=f"architecture {type(model).__name__} is not supported"):
        hp.from_huggingface(model, tokenizer(), False)


def test_a_wrong_derivative_is_noticed():
    pair = prompt_pair()
    known = expectation(build(Architecture("llama")), "mlp_out", pair)
    assert isinstance(known, Expected)
    right = [[list(d.values) for d in jets.values()] for jets in known.jets]
    assert compare(right, known) == ("agrees", "", 0.0)
    for order in range(3):
        values = [[list(row) for row in jets] for jets in right]
        values[1][0][order] += 1e-4 * max(abs(values[1][0][order]), 0.1)
        outcome, reason, worst = compare(values, known)
        assert outcome == "fails"
        assert "in layer 1" in reason
        assert worst > 5e-5
    values[0][0][0] = math.nan
    assert compare(values, known)[0] == "fails"


def test_differences_know_a_smooth_path_and_do_not_trust_a_kink():
    steps = (0.02, 0.01, 0.005, 0.0025)

    def of(f, t):
        return differences(f(t), [(f(t + h), f(t - h)) for h in steps], steps)

    smooth = of(lambda t: math.sin(3 * t), 0.4)
    right = (math.sin(1.2), 3 * math.cos(1.2), -9 * math.sin(1.2))
    for value, error, want in zip(smooth.values, smooth.errors, right, strict=True):
        assert abs(value - want) <= error <= 1e-6
    kinked = of(lambda t: max(t - 0.001, 0.0) ** 2, 0.0)  # f'' jumps from 0 to 2 beside the node
    assert kinked.errors[2] > 0.01
    assert isinstance(kinked, Derivatives)
