"""Pairs in the forms people write them, ids by content, and prompts longer than the model."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hvp_patching.models import from_huggingface
from hvp_patching.models.positions import Positions
from hvp_patching.prompts import (
    PromptError,
    PromptPair,
    TokenPair,
    as_token_pair,
    as_token_pairs,
    corrupt,
    tokenize,
)

CLEAN = "When Mary and John met at the library, John gave a ball to"
OTHER = "When Mary and John met at the library, Mary gave a ball to"
PAIR = PromptPair(CLEAN, OTHER, " Mary")


def refused(model: SimpleNamespace, pair: object) -> str:
    with pytest.raises(PromptError) as caught:
        as_token_pair(model, pair)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


def test_a_pair_without_id_gets_one_from_its_content(model, model_with_bos):
    found = as_token_pair(model, PAIR).prompt_id
    assert found.startswith("prompt-")
    assert as_token_pair(model, as_token_pair(model, PAIR)).prompt_id == found
    assert (
        as_token_pair(model, replace(as_token_pair(model, PAIR), prompt_id="")).prompt_id == found
    )
    others = [replace(PAIR, clean=OTHER, corrupted=CLEAN), replace(PAIR, target=" John")]
    ids = {as_token_pair(model, pair).prompt_id for pair in others} | {found}
    ids |= {as_token_pair(model_with_bos, PAIR).prompt_id, corrupt(model, PAIR, "zero").prompt_id}
    assert len(ids) == 5
    tokens = TokenPair((8, 9), (8, 10), (11,))
    assert as_token_pair(model, tokens).prompt_id == "prompt-f186d864d7"  # the same everywhere


@pytest.mark.parametrize(("given", "kept"), [("mine", "mine"), (7, "7"), (0, "0")])
def test_an_id_that_is_given_is_kept_as_text(model, given, kept):
    assert as_token_pair(model, replace(PAIR, prompt_id=given)).prompt_id == kept


def test_lists_have_one_id_a_pair(model):
    swapped = replace(PAIR, clean=OTHER, corrupted=CLEAN)
    pairs = as_token_pairs(model, [PAIR, swapped, PAIR])
    first = as_token_pair(model, PAIR).prompt_id
    assert [pair.prompt_id for pair in pairs] == [
        first,
        as_token_pair(model, swapped).prompt_id,
        f"{first}-2",
    ]
    assert pairs[0].clean_ids == pairs[2].clean_ids
    named = [replace(PAIR, prompt_id="a"), replace(swapped, prompt_id="a")]
    with pytest.raises(PromptError, match="prompt_id 'a' stands for two different pairs"):
        as_token_pairs(model, named)


def test_one_pair_is_a_list_of_one(model):
    expected = [as_token_pair(model, PAIR)]
    for given in (PAIR, [PAIR], (PAIR,), iter([PAIR]), (CLEAN, OTHER, " Mary"), expected[0]):
        assert as_token_pairs(model, given) == expected
    assert as_token_pairs(model, []) == []
    for odd in (7, None):
        with pytest.raises(PromptError, match="is no list of prompt pairs"):
            as_token_pairs(model, odd)


def test_plain_tuples_are_pairs(model):
    expected = as_token_pair(model, PAIR)
    for given in ((CLEAN, OTHER, " Mary"), [CLEAN, OTHER, " Mary"], (CLEAN, OTHER, [" Mary"])):
        assert as_token_pair(model, given) == expected
    ids = (expected.clean_ids, list(expected.corrupted_ids), expected.target_ids[0])
    assert as_token_pair(model, ids) == expected
    assert as_token_pair(model, (CLEAN, OTHER, " Mary", "mine")).prompt_id == "mine"
    assert tokenize(model, (CLEAN, OTHER, " Mary"))[2] == expected.target_ids[0]


@pytest.mark.parametrize(
    "odd",
    [
        None,
        7,
        "When Mary",
        (CLEAN, OTHER),
        (CLEAN, (1, 2), 3),
        (1, 2, 3),
        (CLEAN, OTHER, " Mary", "mine", 5),
        {"clean": CLEAN, "corrupted": OTHER, "target": " Mary"},
        [PAIR, PAIR, PAIR],
    ],
)
def test_what_is_no_pair_is_one_line(model, odd):
    assert "is no prompt pair; give PromptPair(clean, corrupted, target)" in refused(model, odd)


def test_a_target_is_a_text_an_id_or_several(model):
    text = as_token_pair(model, replace(PAIR, target=[" Mary", " John"]))
    mary, john = text.target_ids
    for target in ((mary, john), [mary, " John"], [np.int64(mary), torch.tensor(john)]):
        assert as_token_pair(model, replace(PAIR, target=target)).target_ids == (mary, john)
    for target in ({" Mary", " John"}, frozenset({mary, john})):
        found = as_token_pair(model, replace(PAIR, target=target)).target_ids
        assert set(found) == {mary, john}
    assert tokenize(model, replace(PAIR, target=mary))[2] == mary
    assert "are the same token" in refused(model, replace(PAIR, target=[mary, " Mary"]))
    assert "outside the vocabulary" in refused(model, replace(PAIR, target=10**6))
    assert "outside the vocabulary" in refused(model, replace(PAIR, target=-1))


@pytest.mark.parametrize(
    "target", [True, False, 3.0, None, b" Mary", [True], [None], {"a": 1}, [[" Mary"]]]
)
def test_a_target_of_another_kind_is_one_line(model, target):
    said = refused(model, replace(PAIR, target=target))
    assert "neither a token's text" in said


def test_ids_as_tokenize_and_tokenizers_give_them(model):
    expected = as_token_pair(model, PAIR)
    clean, corrupted, target = tokenize(model, PAIR)
    assert as_token_pair(model, TokenPair(clean, corrupted, target)) == expected
    arrays = TokenPair(clean.numpy()[0], corrupted[0].tolist(), np.array([target]))
    assert as_token_pair(model, arrays) == expected


@pytest.mark.parametrize(
    "ids", [(1.0, 2.5), ("8", "9"), (True, False), torch.tensor([1.5, 2.0]), [[1, 2], [3, 4]], "ab"]
)
def test_ids_that_are_no_whole_numbers_are_not_rounded(model, ids):
    assert "which is no token id; give whole numbers" in refused(
        model, TokenPair(ids, (1, 2), (3,))
    )


def _positions(model: SimpleNamespace, limit: int | None, hard: bool) -> SimpleNamespace:
    return SimpleNamespace(**vars(model), hvp_positions=Positions(limit, hard))


def test_more_tokens_than_positions_are_refused(model):
    n = len(as_token_pair(model, PAIR).clean_ids)
    assert as_token_pair(_positions(model, n, True), PAIR).clean_ids
    assert as_token_pair(_positions(model, None, False), PAIR).clean_ids
    said = refused(_positions(model, n - 1, True), replace(PAIR, prompt_id="long"))
    assert said == (
        f"prompt 'long': {n} tokens, and the model has {n - 1} positions; shorten the prompt"
    )


def test_more_tokens_than_a_rotary_model_was_made_for_warn_once(model):
    short = _positions(model, 5, False)
    with pytest.warns(UserWarning, match="tokens are more than the 5 positions") as caught:
        as_token_pair(short, PAIR)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_token_pair(short, replace(PAIR, target=" John"))


LIMITS = {
    # class, settings: how many positions, and whether there is a row for one more
    "GPT2Config": ({"n_embd": 16, "n_head": 2, "n_layer": 1, "n_positions": 12}, True),
    "OPTConfig": ({"hidden_size": 16, "ffn_dim": 16, "word_embed_proj_dim": 16}, True),
    "GPTNeoConfig": (
        {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "attention_types": [[["global"], 1]]},
        True,
    ),
    "GPTBigCodeConfig": ({"n_embd": 16, "n_head": 2, "n_layer": 1, "n_positions": 12}, True),
    "GPTJConfig": ({"n_embd": 16, "n_head": 2, "n_layer": 1, "rotary_dim": 4}, True),
    "CodeGenConfig": ({"n_embd": 16, "n_head": 4, "n_layer": 1, "rotary_dim": 4}, True),
    "LlamaConfig": ({"hidden_size": 16, "intermediate_size": 16}, False),
    "GPTNeoXConfig": ({"hidden_size": 16, "intermediate_size": 16}, False),
    "BloomConfig": ({"hidden_size": 16, "n_head": 2, "n_layer": 1}, None),
    "MambaConfig": ({"hidden_size": 16, "num_hidden_layers": 1}, None),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_those_of_the_architecture(name):
    import transformers

    settings, hard = LIMITS[name]
    common = {"vocab_size": 50, "num_attention_heads": 2, "num_hidden_layers": 1}
    if "n_embd" in settings or name in {"BloomConfig", "MambaConfig", "GPTNeoConfig"}:
        common = {"vocab_size": 50}
    if "n_positions" not in settings and hard is not None:
        common["max_position_embeddings" if "n_embd" not in settings else "n_positions"] = 12
    torch.manual_seed(0)
    config = getattr(transformers, name)(**common, **settings, bos_token_id=0, eos_token_id=0)
    hf_model = transformers.AutoModelForCausalLM.from_config(config).eval()
    if name in {"OPTConfig"}:
        hf_model.config.pad_token_id = None
    long = torch.arange(13)[None] % 50
    fails = False
    try:
        with torch.no_grad():
            hf_model(long)
    except Exception:
        fails = True
    assert fails == bool(hard)  # the architecture itself says whether it has a row for one more
    bridge = from_huggingface(hf_model, None, False)
    pair = TokenPair(tuple(range(13)), (1, *range(1, 13)), (3,))
    if hard:
        assert "13 tokens, and the model has 12 positions" in refused(bridge, pair)
    elif hard is None:
        assert bridge.hvp_positions.limit is None
    else:
        with pytest.warns(UserWarning, match="more than the 12 positions"):
            as_token_pair(bridge, pair)
