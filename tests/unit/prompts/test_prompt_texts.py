"""Text becomes ids with one BOS, nothing unknown and nothing lost, or the pair is refused."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hvp_patching.prompts import (
    PromptError,
    PromptPair,
    UnfitPrompt,
    as_token_pair,
    corrupt,
)

PAIR = PromptPair(
    "When Mary and John met at the library, John gave a ball to",
    "When Mary and John met at the library, Mary gave a ball to",
    " Mary",
    "ioi-0007",
)
WORDS = ["the", "cat", "dog", "saw", "Mary", "é"]


def refused(model: SimpleNamespace, pair: object) -> str:
    with pytest.raises(PromptError) as caught:
        as_token_pair(model, pair)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def carrier(tokenizer: Tokenizer, prepend_bos: bool = False, **special: str) -> SimpleNamespace:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    return SimpleNamespace(tokenizer=fast, hvp_spec=SimpleNamespace(prepend_bos=prepend_bos))


def word_level(**special: str) -> SimpleNamespace:
    """Whole words, the rest unknown."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return carrier(tokenizer, **special)


def letters() -> SimpleNamespace:
    """Characters without bytes to fall back on: what is not among them is dropped."""
    alphabet = sorted({letter for word in WORDS for letter in word} | {" "})
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.decoder = decoders.Fuse()
    return carrier(tokenizer)


def unigram() -> SimpleNamespace:
    """SentencePiece's kind, its unknown token known to the inner model only."""
    pieces = [("<unk>", 0.0), *((f"▁{word}", -float(i)) for i, word in enumerate(WORDS, 1))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return carrier(tokenizer)


def test_a_text_that_begins_with_bos_keeps_one_and_says_so(model_with_bos):
    bos = model_with_bos.tokenizer.bos_token_id
    plain = as_token_pair(model_with_bos, PAIR)
    both = replace(PAIR, clean="<bos>" + PAIR.clean, corrupted="<bos>" + PAIR.corrupted)
    with pytest.warns(UserWarning, match=r"prompt 'ioi-0007': the clean .*'<bos>'.* one is kept"):
        found = as_token_pair(model_with_bos, both)
    assert found == plain
    assert found.clean_ids.count(bos) == 1
    with pytest.warns(UserWarning, match="the clean prompt begins with the BOS token"):
        drawn = corrupt(model_with_bos, both, "random_token")
    assert drawn.clean_ids == plain.clean_ids
    with pytest.warns(UserWarning, match="the clean prompt begins with the BOS token"):
        assert corrupt(model_with_bos, both, "zero").clean_ids == plain.clean_ids


@pytest.mark.parametrize(
    "text", ["<bos><bos>When Mary", "When<bos> Mary", " <bos>When", "When<bos>"]
)
def test_bos_further_on_is_refused(model_with_bos, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = refused(model_with_bos, replace(PAIR, clean=text))
    assert "the clean prompt has the BOS token ('<bos>') at token " in said
    assert said.endswith("remove it from the text")


def test_bos_alone_is_an_empty_prompt(model_with_bos):
    with pytest.warns(UserWarning, match="begins with the BOS"):
        assert "prompt is empty" in refused(model_with_bos, replace(PAIR, clean="<bos>"))


def test_without_prepend_bos_the_text_is_taken_at_its_word(model):
    pair = replace(PAIR, clean="<bos>" + PAIR.clean, corrupted="<bos>" + PAIR.corrupted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = as_token_pair(model, pair)
    assert found.clean_ids == (model.tokenizer.bos_token_id, *as_token_pair(model, PAIR).clean_ids)


@pytest.mark.parametrize("build", [word_level, lambda: word_level(unk_token="<unk>"), unigram])
def test_a_target_that_the_tokenizer_does_not_know_is_refused(build):
    model = build()
    good = PromptPair(
        "the cat saw the", "the dog saw the", "dog" if build is not unigram else " dog"
    )
    assert len(as_token_pair(model, good).clean_ids) == 4
    said = refused(model, replace(good, target="zebra"))
    assert "the target ('zebra') has 'zebra' that this tokenizer does not know" in said
    assert "reads as '<unk>'; use other words" in said


@pytest.mark.parametrize("side", ["clean", "corrupted"])
def test_a_prompt_with_an_unknown_word_is_refused(side):
    pair = PromptPair("the cat saw the", "the dog saw the", "dog", "mine")
    said = refused(word_level(), replace(pair, **{side: "the zebra saw the"}))
    assert said.startswith(f"prompt 'mine': the {side} prompt ('the zebra saw the') has 'zebra'")
    with pytest.raises(UnfitPrompt, match="'zebra' that this tokenizer does not know"):
        corrupt(word_level(), replace(pair, clean="the zebra saw the"), "zero")


def test_an_unknown_token_that_is_spelt_out_is_meant():
    model = word_level(unk_token="<unk>")
    found = as_token_pair(model, PromptPair("the <unk> saw", "the dog saw", "cat"))
    assert found.clean_ids[1] == 0
    assert "has 'zebra'" in refused(model, PromptPair("the zebra", "the dog", "<unk>"))


def test_what_the_tokenizer_drops_is_named():
    model = letters()
    pair = PromptPair("the cat saw the", "the dog saw the", "d")
    assert model.tokenizer.decode(as_token_pair(model, pair).clean_ids) == "the cat saw the"
    said = refused(model, replace(pair, clean="the cat☃ saw Zeno"))
    assert "the clean prompt ('the cat☃ saw Zeno') loses '☃Zn' in this tokenizer" in said
    assert "loses '☃' in this tokenizer" in refused(model, replace(pair, target="d☃"))
    assert "loses '☃' in this tokenizer" in refused(model, replace(pair, clean="the ☃cat saw"))


def test_what_is_only_normalised_is_not_lost():
    model = word_level()
    backend = model.tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    pair = PromptPair("The  cát SAW", "the  dog saw", "Cat")
    assert as_token_pair(model, pair).clean_ids == (1, 2, 4)


@pytest.mark.parametrize(
    "text", ["Ünï — “q”\n\t  é x", "e\u0301 \u200d👩‍🚀 日本語", "\x00 \ufeffa"]
)
def test_bytes_lose_nothing(model, text):
    pair = replace(PAIR, clean=f"{text} Mary", corrupted=f"{text} John")
    found = as_token_pair(model, pair)
    assert model.tokenizer.decode(found.clean_ids) == pair.clean


@pytest.mark.parametrize("field", ["clean", "corrupted", "target", "prompt_id"])
def test_a_lone_surrogate_is_one_line(model, field):
    said = refused(model, replace(PAIR, **{field: "a\ud800b"}))
    assert "lone surrogate '\\ud800' at character 1" in said


@pytest.mark.parametrize("text", [None, 7, b"When", ["When", "Mary"]])
@pytest.mark.parametrize("side", ["clean", "corrupted"])
def test_what_is_no_text_is_one_line(model, side, text):
    said = refused(model, replace(PAIR, **{side: text}))
    assert ("is no text; give a str" in said) or ("it has no corrupted text" in said)
