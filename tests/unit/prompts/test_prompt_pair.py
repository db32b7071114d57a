"""Token pairs: tokenisation, BOS, and every message of the checks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvp_patching.prompts import (
    PromptError,
    PromptPair,
    TokenPair,
    UnfitPrompt,
    as_token_pair,
    decode,
    tokenize,
)
from hvp_patching.prompts.pair import check_ids

PAIR = PromptPair(
    "When Mary and John met at the library, John gave a ball to",
    "When Mary and John met at the library, Mary gave a ball to",
    " Mary",
    "ioi-0007",
)


def message(model: SimpleNamespace, pair: PromptPair | TokenPair) -> str:
    with pytest.raises(PromptError) as caught:
        as_token_pair(model, pair)
    text = str(caught.value)
    assert "\n" not in text
    assert isinstance(caught.value, ValueError)
    return text


def test_tokenize_gives_ids_of_the_text_and_one_target(model):
    clean, corrupted, target = tokenize(model, PAIR)
    assert clean.dtype == corrupted.dtype == torch.int64
    assert clean.shape == corrupted.shape == (1, clean.shape[1])
    assert model.tokenizer.decode(clean[0]) == PAIR.clean
    assert model.tokenizer.decode(corrupted[0]) == PAIR.corrupted
    assert isinstance(target, int)
    assert model.tokenizer.decode([target]) == " Mary"


def test_a_target_set_gives_a_tuple_in_its_order(model):
    _, _, target = tokenize(model, replace(PAIR, target=(" Mary", " John")))
    assert [model.tokenizer.decode([t]) for t in target] == [" Mary", " John"]


def test_bos_is_prepended_once_and_not_to_the_target(model, model_with_bos):
    without, with_bos = as_token_pair(model, PAIR), as_token_pair(model_with_bos, PAIR)
    bos = model.tokenizer.bos_token_id
    assert with_bos.clean_ids == (bos, *without.clean_ids)
    assert with_bos.corrupted_ids == (bos, *without.corrupted_ids)
    assert with_bos.target_ids == without.target_ids
    assert with_bos.first_changed == without.first_changed + 1
    assert decode(model_with_bos, with_bos.clean_ids) == PAIR.clean


def test_a_token_pair_passes_through_unchanged(model):
    tokens = as_token_pair(model, PAIR)
    assert as_token_pair(model, tokens) == tokens
    assert tokens.prompt_id == "ioi-0007"
    assert tokens.corruption == "custom"
    assert as_token_pair(model, replace(PAIR, prompt_id="")).prompt_id.startswith("prompt-")


def test_numpy_and_torch_ids_become_ints(model):
    tokens = as_token_pair(model, PAIR)
    clean, other = torch.tensor(tokens.clean_ids), torch.tensor(tokens.corrupted_ids).numpy()
    again = as_token_pair(
        model, replace(tokens, clean_ids=tuple(clean), corrupted_ids=tuple(other))
    )
    assert again == tokens
    assert all(type(i) is int for i in again.clean_ids + again.corrupted_ids)


def test_lengths_that_differ_are_both_named(model):
    n = len(as_token_pair(model, PAIR).clean_ids)
    text = message(model, replace(PAIR, corrupted=PAIR.corrupted.replace("gave a", "gave Anna a")))
    assert text.startswith("prompt 'ioi-0007': lengths differ after tokenisation, ")
    assert f"clean has {n} tokens and corrupted {n + 1}; change the text" in text


def test_a_split_target_is_named_with_its_pieces(model):
    target_ids = model.tokenizer(" Maryqqx", add_special_tokens=False)["input_ids"]
    shown = " + ".join(repr(model.tokenizer.decode([i])) for i in target_ids)
    assert len(target_ids) > 1
    assert "'q'" in shown
    assert message(model, replace(PAIR, target=" Maryqqx")) == (
        f"prompt 'ioi-0007': target ' Maryqqx' is {len(target_ids)} tokens ({shown}); "
        "choose a target that this tokenizer keeps as one token"
    )


def test_a_split_target_within_a_set_is_an_error(model):
    assert "target ' zzqx' is " in message(model, replace(PAIR, target=(" Mary", " zzqx")))


def test_an_identical_pair_is_an_error(model):
    n = len(as_token_pair(model, PAIR).clean_ids)
    assert message(model, replace(PAIR, corrupted=PAIR.clean)) == (
        f"prompt 'ioi-0007': clean and corrupted are identical ({n} tokens); "
        "a pair must differ in at least one token"
    )


@pytest.mark.parametrize("side", ["clean", "corrupted"])
@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_prompt_is_an_error_with_and_without_bos(model, model_with_bos, side, text):
    for one in (model, model_with_bos):
        expected = f"the {side} prompt is empty ({text!r}); give at least one word"
        assert expected in message(one, replace(PAIR, **{side: text}))


@pytest.mark.parametrize("target", ["", (), ("",), (" Mary", "")])
def test_an_empty_target_is_an_error(model, target):
    text = message(model, replace(PAIR, target=target))
    assert f"the target is empty ({target!r}); give one token's text" in text


def test_a_set_that_names_one_token_twice_is_an_error(model):
    token = as_token_pair(model, PAIR).target_ids[0]
    assert message(model, replace(PAIR, target=(" Mary", " John", " Mary"))) == (
        f"prompt 'ioi-0007': targets ' Mary' and ' Mary' are the same token ({token}); "
        "a target set names each token once"
    )
    tokens = replace(as_token_pair(model, PAIR), target_ids=(5, 6, 5))
    assert "the target set has 3 ids but only 2 different ones" in message(model, tokens)


def test_a_missing_corruption_is_an_error(model):
    assert "it has no corrupted text; give PromptPair(corrupted=…)" in message(
        model, replace(PAIR, corrupted=None)
    )


def test_a_prompt_without_id_is_named_by_its_first_sixty_characters(model):
    start = (PAIR.clean * 2)[:60]
    text = message(model, replace(PAIR, prompt_id="", clean=PAIR.clean * 2, corrupted=" x"))
    assert text.startswith(f"prompt {start!r}: lengths differ")


@pytest.mark.parametrize("side", ["clean_ids", "corrupted_ids", "target_ids"])
@pytest.mark.parametrize("where", ["above", "below"])
def test_ids_outside_the_vocabulary_are_named(model, side, where):
    size = len(model.tokenizer)
    token = size if where == "above" else -1
    tokens = as_token_pair(model, PAIR)
    ids = (token, *getattr(tokens, side)[1:])
    assert message(model, replace(tokens, **{side: ids})) == (
        f"prompt 'ioi-0007': token id {token} ({side.removesuffix('_ids')}, position 0) is outside "
        f"the vocabulary of {size} (0 to {size - 1}); tokenise with this model's own tokenizer"
    )


def test_the_models_vocabulary_counts_where_it_is_known(model):
    small = SimpleNamespace(**vars(model), cfg=SimpleNamespace(d_vocab=10))
    assert "is outside the vocabulary of 10 (0 to 9)" in message(small, PAIR)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"clean_ids": ()}, "the clean prompt is empty (0 tokens)"),
        ({"corrupted_ids": ()}, "the corrupted prompt is empty (0 tokens)"),
        ({"target_ids": ()}, "the target is empty; give at least one token id"),
        ({"corrupted_ids": (8, 9, 9)}, "clean has 2 tokens and corrupted 3"),
        ({"corrupted_ids": (8, 9)}, "clean and corrupted are identical (2 tokens)"),
    ],
)
def test_token_pairs_are_checked_as_text_is(model, change, expected):
    tokens = TokenPair((8, 9), (8, 10), (11,), "mine")
    text = message(model, replace(tokens, **change))
    assert text.startswith("prompt 'mine': ")
    assert expected in text


def test_a_model_without_spec_is_told_how_to_get_one(model):
    bare = SimpleNamespace(tokenizer=model.tokenizer)
    text = message(bare, PAIR)
    assert "the model carries no hvp_spec" in text
    assert "hvp_patching.load_model" in text


def test_a_bos_that_the_tokenizer_lacks_is_an_error(model):
    blind = SimpleNamespace(
        tokenizer=SimpleNamespace(bos_token_id=None, decode=model.tokenizer.decode),
        hvp_spec=SimpleNamespace(prepend_bos=True),
    )
    with pytest.raises(PromptError, match="prepend_bos=True but its tokenizer has no BOS token"):
        decode(blind, (1, 2))


_IDS = st.lists(st.integers(0, 42), min_size=1, max_size=3).map(tuple)


@given(clean=_IDS, corrupted=_IDS, target=_IDS)
def test_a_pair_passes_exactly_when_it_is_usable(clean, corrupted, target):
    pair = TokenPair(clean, corrupted, target, "any")
    usable = (
        len(clean) == len(corrupted)
        and clean != corrupted
        and len(set(target)) == len(target)
        and max(clean + corrupted + target) < 40
    )
    if not usable:
        with pytest.raises(UnfitPrompt, match="prompt 'any': "):
            check_ids(pair, 40)
        return
    assert check_ids(pair, 40) == pair
    first = pair.first_changed
    assert clean[:first] == corrupted[:first]
    assert clean[first] != corrupted[first]
