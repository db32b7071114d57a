"""Pairs that differ from another one in a single respect."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from hvp_patching.prompts import corrupt, factual, greater_than, ioi
from hvp_patching.prompts.corruptions import special_tokens
from hvp_patching.prompts.variants import foils, redrawn, with_other_start

FACTS = factual.pairs(20)


def test_another_token_is_drawn_in_the_same_place(model_with_bos):
    model, seen = model_with_bos, Counter()
    for fact in FACTS:
        tokens = corrupt(model, fact, "random_token")
        other = redrawn(model, tokens)
        assert other == redrawn(model, tokens)
        assert replace(other, corrupted_ids=tokens.corrupted_ids) == tokens
        pairs = zip(tokens.corrupted_ids, other.corrupted_ids, strict=True)
        assert [a != b for a, b in pairs].index(True) == tokens.first_changed == 4
        assert sum(a != b for a, b in zip(tokens.clean_ids, other.corrupted_ids, strict=True)) == 1
        assert other.corrupted_ids[4] not in special_tokens(model)
        seen[other.corrupted_ids[4]] += 1
    assert len(seen) > 15
    assert redrawn(model, tokens, seed=1) != other


def test_only_a_random_token_is_drawn_again(model):
    tokens = corrupt(model, ioi.pairs(1)[0], "name_swap")
    with pytest.raises(ValueError, match="'name_swap' has no token to redraw"):
        redrawn(model, tokens)


def test_a_start_is_added_or_taken_away(model, model_with_bos):
    fact, bos = FACTS[0], model.tokenizer.bos_token_id
    without, with_bos = (corrupt(m, fact, "random_token") for m in (model, model_with_bos))
    assert with_bos.clean_ids == (bos, *without.clean_ids)
    assert with_other_start(model, without).clean_ids == with_bos.clean_ids
    assert with_other_start(model_with_bos, with_bos).clean_ids == without.clean_ids
    for one, m in ((without, model), (with_bos, model_with_bos)):
        assert with_other_start(m, with_other_start(m, one)) == one


def test_a_tokenizer_without_a_start_has_none(model):
    from types import SimpleNamespace

    bare = SimpleNamespace(tokenizer=SimpleNamespace(bos_token_id=None), hvp_spec=model.hvp_spec)
    assert with_other_start(bare, corrupt(model, FACTS[0], "random_token")) is None


def test_a_name_is_set_against_the_subject_and_a_fact_against_nothing(model):
    tokens = corrupt(model, ioi.pairs(1)[0], "name_swap")
    assert foils(model, tokens) == tokens.foil_ids != ()
    assert foils(model, corrupt(model, FACTS[0], "random_token")) == ()


@pytest.mark.parametrize("target", ["set", "single"])
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("digits", ["pairs", "single"])
def test_years_above_are_set_against_all_others(make_model, digits, bos, target):
    model = make_model(digits, prepend_bos=bos)
    for pair in greater_than.pairs(20):
        year = int(pair.clean.split(" to the year")[0][-2:])
        if digits == "single" and year >= 90:
            continue
        settled, _ = greater_than.settle(model, pair, target)
        found = foils(model, corrupt(model, settled, "random_token"))
        texts = [model.tokenizer.decode([token]) for token in found]
        if digits == "pairs":
            assert texts == [f"{n:02d}" for n in range(year + 1)]
        else:
            assert texts == [str(n) for n in range(year // 10 + 1)]
