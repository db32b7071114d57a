"""Corruptions: what they change, and that a prompt's corruption depends on that prompt alone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp_patching.prompts import (
    CORRUPTIONS,
    NEED_DONORS,
    Donors,
    PromptError,
    PromptPair,
    UnfitPrompt,
    corrupt,
    decode,
    entity_swap,
    factual,
    ioi,
)
from hvp_patching.prompts.corruptions import (
    abc,
    name_swap,
    random_token,
    resample,
    special_tokens,
)

PAIR = PromptPair(
    "When Mary and John met at the library, John gave a ball to", None, " Mary", "mine"
)
FACT = PromptPair("The capital of France is the city of", None, " Paris", "fact")


def test_name_swap_puts_the_indirect_object_in_the_second_place(model):
    corrupted = name_swap(model, PAIR).corrupted
    assert corrupted == "When Mary and John met at the library, Mary gave a ball to"


def test_abc_puts_a_third_name_in_the_second_place(model):
    corrupted = abc(model, PAIR).corrupted
    found = re.fullmatch(r"When Mary and John met at the library, (\w+) gave a ball to", corrupted)
    assert found[1] in set(ioi.names()) - {"Mary", "John"}
    assert abc(model, PAIR) == abc(model, PAIR)
    names = {abc(model, PAIR, seed).corrupted for seed in range(20)}
    assert len(names) > 5


@pytest.mark.parametrize("name", ["name_swap", "abc"])
def test_one_token_of_each_ioi_prompt_changes(model_with_bos, name):
    for pair in ioi.pairs(100):
        tokens = corrupt(model_with_bos, pair, name)
        changed = [a != b for a, b in zip(tokens.clean_ids, tokens.corrupted_ids, strict=True)]
        assert sum(changed) == 1
        assert changed[tokens.first_changed]
        assert tokens.corruption == name
        assert tokens.prompt_id == pair.prompt_id
        assert (tokens.corrupted_ids[tokens.first_changed] in tokens.target_ids) == (
            name == "name_swap"
        )


@pytest.mark.parametrize(
    ("clean", "target", "expected"),
    [
        ("When Mary and John met, Anna gave a ball to", " Mary", "twice stand []"),
        ("When Mary and John met, John gave a ball to", " Anna", "target ' Anna' 0 times"),
        (
            "When Mary and John met, Mary gave John a ball and",
            " Mary",
            "twice stand ['John', 'Mary']",
        ),
        ("When Mary and John met, John gave a ball to", (" Mary",), "target (' Mary',) 0 times"),
    ],
)
@pytest.mark.parametrize("corruption", [name_swap, abc])
def test_names_that_cannot_be_swapped_are_named(model, corruption, clean, target, expected):
    with pytest.raises(PromptError) as caught:
        corruption(model, PromptPair(clean, None, target, "mine"))
    assert expected in str(caught.value)
    assert str(caught.value).startswith("prompt 'mine': a name swap needs one name twice")


def test_random_token_changes_position_three_after_any_bos(model, model_with_bos):
    without, with_bos = random_token(model, FACT), random_token(model_with_bos, FACT)
    assert without.first_changed == 3
    assert with_bos.first_changed == 4
    assert with_bos.corrupted_ids[1:] == without.corrupted_ids
    assert without.clean_ids[4:] == without.corrupted_ids[4:]
    assert random_token(model, FACT, position=0).first_changed == 0


def test_random_token_depends_on_prompt_seed_and_position_alone(model):
    pairs = factual.pairs(60)
    together = [random_token(model, pair, seed=5) for pair in pairs if _fits(model, pair)]
    alone = {tokens.prompt_id: tokens for tokens in reversed(together)}
    for pair in reversed(pairs):
        if pair.prompt_id in alone:
            assert random_token(model, pair, seed=5) == alone[pair.prompt_id]
    drawn = {tokens.corrupted_ids[3] for tokens in together}
    assert len(drawn) > len(together) * 0.9
    assert random_token(model, FACT, seed=1) != random_token(model, FACT, seed=2)
    assert random_token(model, FACT) != random_token(model, replace(FACT, prompt_id="other"))


def _fits(model, pair: PromptPair) -> bool:
    return len(model.tokenizer(pair.target, add_special_tokens=False)["input_ids"]) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 10**6), name=st.text(min_size=1, max_size=8))
def test_random_token_is_never_special_and_never_the_same(model, seed, name):
    tokens = random_token(model, replace(FACT, prompt_id=name), seed)
    assert tokens.corrupted_ids[3] != tokens.clean_ids[3]
    assert tokens.corrupted_ids[3] not in special_tokens(model)
    assert 0 <= tokens.corrupted_ids[3] < len(model.tokenizer)


def test_the_draw_reaches_the_whole_vocabulary_but_special_tokens(make_model):
    class Few:
        """Eight tokens: 0 and 1 special, 7 a gap in the numbering."""

        all_special_ids = (0, 1)
        bos_token_id = 0

        def __call__(self, text, add_special_tokens):
            return {"input_ids": [2, 3, 4, 5] if text == FACT.clean else [6]}

        def __len__(self):
            return 8

        def convert_ids_to_tokens(self, token):
            return None if token == 7 else str(token)

    few = type(make_model())(tokenizer=Few(), hvp_spec=make_model().hvp_spec)
    drawn = [random_token(few, FACT, seed).corrupted_ids[3] for seed in range(400)]
    assert set(drawn) == {2, 3, 4, 6}
    assert all(70 < drawn.count(token) < 130 for token in set(drawn))


def test_marked_tokens_count_as_special(model):
    names = model.tokenizer.convert_ids_to_tokens(sorted(special_tokens(model)))
    assert set(names) == {"<bos>", "<eos>", "<unused0>", "<unused1>"}


def test_a_short_prompt_is_named_with_its_length(model):
    with pytest.raises(PromptError) as caught:
        random_token(model, replace(FACT, clean="The capital of"))
    assert str(caught.value) == (
        "prompt 'fact': the prompt has 3 tokens, so there is none at position 3 (0-based) to "
        "replace; use a longer prompt or another position"
    )


@pytest.mark.parametrize("position", [-1, 1.0, "3", True])
def test_a_bad_position_is_named(model, position):
    with pytest.raises(PromptError, match="is not a whole number from 0 on") as caught:
        random_token(model, FACT, position=position)
    assert repr(position) in str(caught.value)


def test_an_unknown_corruption_lists_the_known_ones(model):
    with pytest.raises(PromptError) as caught:
        corrupt(model, PAIR, "swap")
    assert str(caught.value) == (
        "unknown corruption 'swap'; known: name_swap, abc, random_token, "
        "resample, zero, entity_swap, other_letters, other_sum"
    )
    other = (*NEED_DONORS, "other_letters")  # of a multiple choice
    plain = [name for name in CORRUPTIONS if name not in other]
    assert len(plain) == 4
    assert all(corrupt(model, PAIR, name).corruption == name for name in plain)


def test_resample_takes_another_prompt_of_equal_length_and_other_answer(model_with_bos):
    pairs = [pair for pair in factual.pairs(80) if _fits(model_with_bos, pair)]
    donors, taken = Donors(pairs), 0
    by_text = {pair.clean: pair for pair in pairs}
    lengths = Counter(_length(model_with_bos, pair) for pair in pairs)
    for pair in pairs:
        if lengths[_length(model_with_bos, pair)] < 2:
            continue
        tokens = corrupt(model_with_bos, pair, "resample", donors=donors)
        donor = by_text[decode(model_with_bos, tokens.corrupted_ids)]
        assert donor.target != pair.target
        assert donor.prompt_id != pair.prompt_id
        assert decode(model_with_bos, tokens.clean_ids) == pair.clean
        assert tokens.corruption == "resample"
        assert tokens.corrupted_ids[0] == model_with_bos.tokenizer.bos_token_id
        taken += 1
    assert taken > 50


def _length(model, pair: PromptPair) -> int:
    return len(model.tokenizer(pair.clean, add_special_tokens=False)["input_ids"])


def test_resample_draws_uniformly_per_prompt_and_seed(model):
    same = [replace(FACT, clean=f"The capital of {name} is the city of") for name in _COUNTRIES]
    pairs = [
        replace(pair, prompt_id=f"p{i}", target=f" {city}")
        for i, (pair, city) in enumerate(zip(same, _CITIES, strict=True))
    ]
    assert len({_length(model, pair) for pair in [*pairs, FACT]}) == 1
    drawn = Counter(resample(model, FACT, seed, Donors(pairs)).corrupted for seed in range(400))
    assert set(drawn) == {pair.clean for pair in pairs if pair.target != FACT.target}
    assert all(70 < count < 130 for count in drawn.values())
    others = {
        resample(model, replace(FACT, prompt_id=f"f{i}"), 0, Donors(pairs)).corrupted
        for i in range(30)
    }
    assert len(others) == 4
    # A donor that is not drawn changes nothing.
    first = resample(model, FACT, 0, Donors(pairs)).corrupted
    fewer = [pair for pair in pairs if pair.clean == first or pair.prompt_id in {"p0", "p1"}]
    assert resample(model, FACT, 0, Donors(fewer)).corrupted == first


_COUNTRIES = ("Japan", "Germany", "Italy", "Spain", "France")
_CITIES = ("Tokyo", "Berlin", "Rome", "Madrid", "Paris")


@pytest.mark.parametrize("name", NEED_DONORS)
def test_donors_are_asked_for(model, name):
    pair = entity_swap.pairs(1)[0]
    with pytest.raises(PromptError) as caught:
        corrupt(model, pair, name)
    assert str(caught.value) == (
        f"prompt {pair.prompt_id!r}: the corruption {name!r} takes another prompt's run; give "
        "donors=Donors([…]), or make the list with hvp_patching.prompts.build"
    )


def test_a_prompt_that_nothing_can_replace_is_named_with_its_length(model):
    n = _length(model, FACT)
    longer = replace(FACT, clean=f"{FACT.clean} the city of", target=" Rome", prompt_id="longer")
    same_answer = replace(FACT, clean="The capital of Japan is the city of", prompt_id="same")
    for donors in ([], [FACT], [longer, same_answer]):
        with pytest.raises(UnfitPrompt) as caught:
            resample(model, FACT, 0, Donors(donors))
        assert str(caught.value) == (
            f"prompt 'fact': none of the {len(donors)} prompts that could take its place suits, "
            f"with {n} tokens and another answer; leave it out or add such a prompt"
        )
        assert caught.value.kind == "no prompt to take its place"


def test_entity_swap_changes_the_entity_alone_in_two_tokens_or_more(model):
    pairs = entity_swap.pairs(None)
    donors = Donors(pairs)
    by_text = {pair.clean: pair for pair in pairs}
    swapped = 0
    for pair in pairs[:60]:
        try:
            tokens = corrupt(model, pair, "entity_swap", donors=donors)
        except UnfitPrompt:
            continue
        other = by_text[decode(model, tokens.corrupted_ids)]
        assert entity_swap.relation(other) == entity_swap.relation(pair)
        assert other.target != pair.target
        assert decode(model, tokens.target_ids) == pair.target
        changed = [a != b for a, b in zip(tokens.clean_ids, tokens.corrupted_ids, strict=True)]
        assert sum(changed) >= 2
        swapped += 1
    assert swapped >= 46


def test_an_entity_of_one_token_is_not_swapped(model):
    pairs = [
        PromptPair(
            f"It is {name} that is the city of", None, f" {city}", f"entity_swap-city-00000{i}"
        )
        for i, (name, city) in enumerate([("Paris", "Paris"), ("Rome", "Rome")])
    ]
    assert resample(model, pairs[0], 0, Donors(pairs)).corrupted == pairs[1].clean
    with pytest.raises(UnfitPrompt, match="none of the 2 prompts"):
        corrupt(model, pairs[0], "entity_swap", donors=Donors(pairs))
    with pytest.raises(UnfitPrompt, match="an entity swap needs a prompt of the task entity_swap"):
        corrupt(model, FACT, "entity_swap", donors=Donors(pairs))


def test_zero_keeps_the_prompt_and_marks_every_position_as_changed(model_with_bos):
    tokens = corrupt(model_with_bos, PAIR, "zero")
    assert tokens.corrupted_ids == tokens.clean_ids
    assert decode(model_with_bos, tokens.clean_ids) == PAIR.clean
    assert tokens.clean_ids[0] == model_with_bos.tokenizer.bos_token_id
    assert decode(model_with_bos, (0, *tokens.target_ids)) == PAIR.target
    assert (tokens.corruption, tokens.first_changed) == ("zero", 0)
