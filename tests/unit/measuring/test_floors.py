"""Readings of the truth: each changes one respect, and its numbers are those of plain passes."""

from __future__ import annotations

from dataclasses import fields, replace

import pandas as pd
import pytest
import torch

from hvp_patching.cache import Store
from hvp_patching.checking import Check
from hvp_patching.checking.plain import PlainPaths
from hvp_patching.frames import AS_DEFINED, FLOOR_METHODS, MEAN_FIRST, READINGS
from hvp_patching.measuring.floors import SIDES, UNCHECKED, Side, measure_floors
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.models import load_model
from hvp_patching.paths.jets import path_jets
from hvp_patching.prompts.variants import redrawn, with_other_start

K, SEED, FOIL = 3, 5, 23
RESPECTS = {
    AS_DEFINED: set(),
    "redrawn": {"tokens"},
    "other_base": {"direction"},
    "last_position": {"positions"},
    "logit_difference": {"metric"},
    MEAN_FIRST: set(),
    "half_precision": {"half"},
    "bos": {"tokens"},
}


def load(dtype):
    """A model of its own, since half precision rounds weights in place."""
    return load_model("tiny-gpt2", dtype=dtype, device="cpu")


@pytest.fixture(scope="module")
def pairs(make_pair):
    made = [make_pair(changed=(3,), seed=seed) for seed in (0, 1)]
    return [replace(pair, corruption="random_token", foil_ids=(FOIL,)) for pair in made]


@pytest.fixture(scope="module")
def measured(pairs, tmp_path_factory):
    """The rule's measurement, its store and its rows."""
    store = Store(tmp_path_factory.mktemp("store"))
    m = Measurement(load, pairs, dtype="float64", check=Check("sample"))
    m.heard = []
    m.progress = m.heard.append
    return m, store, measure_floors(m, store, READINGS[1:], K, SEED)


def rows_of(measured, reading, tokens=None):
    table = measured[2]
    rows = table[table["reading"] == reading]
    return rows if tokens is None else rows[rows["prompt_id"] == tokens.prompt_id]


def plain_truths(model, tokens, direction="noising", position=None, foil=None):
    """Δ of every head by forward passes of the whole prompt with plain hooks."""
    paths = PlainPaths(model, tokens, "attn_heads", direction)
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    moves = [paths.move(*head, 1.0) for head in heads]
    if position is not None:
        kept = torch.zeros(len(tokens.clean_ids), 1, 1, dtype=torch.float64)
        kept[position] = 1
        moves = [replace(move, shift=move.shift * kept) for move in moves]
    logits = paths.logits([paths.move(0, 0, 0.0), *moves])
    m = paths.metric(logits)
    if foil is not None:
        m = logits[:, tokens.target_ids[0]] - logits[:, foil]
    return dict(zip(heads, (m[1:] - m[0]).tolist(), strict=True))


EXPECTED = {
    AS_DEFINED: lambda model, tokens: plain_truths(model, tokens),
    "redrawn": lambda model, tokens: plain_truths(model, redrawn(model, tokens, SEED)),
    "other_base": lambda model, tokens: {
        head: -effect for head, effect in plain_truths(model, tokens, "denoising").items()
    },
    "last_position": lambda model, tokens: plain_truths(model, tokens, position=-1),
    "logit_difference": lambda model, tokens: plain_truths(model, tokens, foil=FOIL),
    "bos": lambda model, tokens: plain_truths(model, with_other_start(model, tokens)),
}


@pytest.mark.parametrize("reading", EXPECTED)
def test_truths_are_those_of_plain_passes(measured, pairs, reading):
    for tokens in pairs:
        effects = EXPECTED[reading](measured[0].model, tokens)
        rows = rows_of(measured, reading, tokens)
        largest = sorted(effects, key=lambda head: -abs(effects[head]))[:K]
        assert set(zip(rows["layer"], rows["index"], strict=True)) == set(largest)
        for row in rows.itertuples():
            assert row.truth == pytest.approx(effects[row.layer, row.index], rel=1e-7)
        (span,) = rows["truth_range"].unique()
        assert span == pytest.approx(max(effects.values()) - min(effects.values()), rel=1e-7)
        assert rows["changed"].all()


@pytest.mark.parametrize("reading", READINGS)
def test_estimates_are_as_defined_in_every_reading(measured, pairs, reading):
    for tokens in pairs:
        rows = rows_of(measured, reading, tokens)
        assert list(rows["estimator"].unique()) == list(FLOOR_METHODS)
        assert len(rows) == K * len(FLOOR_METHODS)
        jets = path_jets(measured[0].model, tokens, nodes=(0.0,), order=2)
        first, second = jets.at(0.0, 1).tolist(), jets.at(0.0, 2).tolist()
        for row in rows[rows["estimator"].isin(["ap", "hvp"])].itertuples():
            head = 4 * row.layer + row.index
            estimate = first[head] + (row.estimator == "hvp") * second[head] / 2
            assert row.estimate == pytest.approx(estimate, rel=1e-9)


def test_the_mean_over_prompts_picks_the_components(measured, pairs):
    effects = [plain_truths(measured[0].model, tokens) for tokens in pairs]
    mean = {head: sum(one[head] for one in effects) / len(effects) for head in effects[0]}
    largest = sorted(mean, key=lambda head: -abs(mean[head]))[:K]
    for tokens, own in zip(pairs, effects, strict=True):
        rows = rows_of(measured, MEAN_FIRST, tokens)
        assert set(zip(rows["layer"], rows["index"], strict=True)) == set(largest)
        for row in rows.itertuples():
            assert row.truth == pytest.approx(own[row.layer, row.index], rel=1e-7)
            assert row.truth_range == pytest.approx(max(mean.values()) - min(mean.values()))


def test_half_precision_rounds_the_truth_alone(measured, pairs):
    model = measured[0].model
    assert next(model.parameters()).dtype == torch.float64
    for tokens in pairs:
        effects = plain_truths(model, tokens)
        rows = rows_of(measured, "half_precision", tokens)
        heads = zip(rows["layer"], rows["index"], strict=True)
        exact = [effects[head] for head in heads]
        off = (rows["truth"] - exact).abs() / rows["truth_range"]
        assert off.max() > 1e-5
        assert off.max() < 0.2


@pytest.mark.parametrize("reading", READINGS)
def test_a_reading_changes_one_respect(measured, pairs, reading):
    defined = Side(pairs[0])
    side = SIDES[reading](measured[0].model, defined, SEED)
    differing = {f.name for f in fields(Side) if getattr(side, f.name) != getattr(defined, f.name)}
    assert differing == RESPECTS[reading]
    if "tokens" in differing:
        own = {f.name for f in fields(side.tokens)}
        same = {name for name in own if getattr(side.tokens, name) == getattr(pairs[0], name)}
        sides = {"corrupted_ids"} if reading == "redrawn" else {"clean_ids", "corrupted_ids"}
        assert own - same == sides


def test_what_does_not_exist_has_no_rows_and_what_is_the_same_says_so(pairs, tmp_path, tiny):
    plain = replace(pairs[0], foil_ids=(), corruption="name_swap")
    m = Measurement(lambda dtype: tiny("tiny-gpt2", dtype), [plain], dtype="float64")
    table = measure_floors(m, Store(tmp_path), ["redrawn", "logit_difference"], K)
    assert list(table["reading"].unique()) == [AS_DEFINED, "redrawn"]
    defined, same = (group for _, group in table.groupby("reading", sort=False))
    assert not same["changed"].any()
    pd.testing.assert_frame_equal(
        same.drop(columns=["reading", "changed"]).reset_index(drop=True),
        defined.drop(columns=["reading", "changed"]),
    )
    resampled, zero = (replace(plain, corruption=name) for name in ("resample", "zero"))
    assert SIDES["redrawn"](m.model, Side(resampled), 0) is None
    assert SIDES["other_base"](m.model, Side(zero), 0) is None


def test_prompts_are_reported_checked_and_kept(measured, monkeypatch):
    m, store, table = measured
    assert sum(m.heard) == pytest.approx(2)
    assert min(m.heard) >= -1e-12
    assert m.check.seen > m.check.checked > 0
    assert UNCHECKED in m.check.notes
    monkeypatch.setattr(store, "put", lambda *_: pytest.fail("computed again"))
    again = Measurement(load, m.prompts, dtype="float64")
    pd.testing.assert_frame_equal(measure_floors(again, store, READINGS[1:], K, SEED), table)


def test_an_unknown_reading_is_refused(measured, tmp_path):
    with pytest.raises(ValueError, match="unknown reading 'noise'; known: as_defined, redrawn"):
        measure_floors(measured[0], Store(tmp_path), ["noise"], K)
