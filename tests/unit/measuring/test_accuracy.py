"""Accuracy on clean prompts, against plain forward passes of the Hugging Face module."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hvp_patching.measuring.accuracy import task_accuracy
from hvp_patching.models.tiny import build_tiny
from hvp_patching.prompts import Answer, PromptError


@pytest.fixture(scope="module")
def plain():
    model = build_tiny("tiny-gpt2")[0].double()

    def logits(ids):
        with torch.no_grad():
            return model(torch.tensor([list(ids)])).logits[0, -1]

    return logits


def test_lead_and_correct_are_those_of_plain_passes(tiny, make_pair, plain):
    model = tiny("tiny-gpt2")
    pairs = [replace(make_pair(seed=i), prompt_id=f"p{i}") for i in range(6)]
    best = {pair.prompt_id: int(plain(pair.clean_ids).argmax()) for pair in pairs}
    half = [
        replace(pair, target_ids=(best[pair.prompt_id],)) if i % 2 else pair
        for i, pair in enumerate(pairs)
    ]
    table = task_accuracy(model, half).set_index("prompt_id")
    for pair in half:
        found, row = plain(pair.clean_ids), table.loc[pair.prompt_id]
        right = found[list(pair.target_ids)].max()
        others = found.clone()
        others[list(pair.target_ids)] = -torch.inf
        assert row["lead"] == pytest.approx(float(right - others.max()), abs=1e-10)
        assert row["lead"] != 0
        assert row["correct"] == (best[pair.prompt_id] in pair.target_ids)
        assert row["chance"] == 0
    assert table["correct"].tolist() == [False, True] * 3


def test_choices_limit_what_an_answer_competes_with(tiny, make_pair, plain):
    pair = replace(make_pair(), prompt_id="p", target_ids=(17,))
    found = plain(pair.clean_ids)
    below = [i for i in range(300, 330) if found[i] < found[17]][:3]
    above = next(i for i in range(300, 3000) if found[i] > found[17])
    model = tiny("tiny-gpt2")
    for choices, correct in (((17, *below), True), ((17, above, *below), False)):
        row = task_accuracy(model, [pair], {"p": Answer((17,), (), choices)}).iloc[0]
        assert row["correct"] == correct
        assert row["chance"] == 1 / len(choices)


def test_every_token_of_an_answer_must_be_right(tiny, make_pair, plain):
    pair = replace(make_pair(), prompt_id="p")
    first = int(plain(pair.clean_ids).argmax())
    second = int(plain((*pair.clean_ids, first)).argmax())
    pair, model = replace(pair, target_ids=(first,)), tiny("tiny-gpt2")
    for last, correct in ((second, True), ((second + 1) % 100, False)):
        row = task_accuracy(model, [pair], {"p": Answer((first,), (first, last))}).iloc[0]
        assert row["correct"] == correct
        assert row["lead"] > 0


def test_a_model_in_train_mode_and_bad_pairs_are_refused(tiny, make_pair):
    model = tiny("tiny-gpt2")
    with pytest.raises(PromptError, match="foil and target at once"):
        task_accuracy(model, [replace(make_pair(), foil_ids=(17,))])
    model.train()
    try:
        with pytest.raises(ValueError, match="train mode"):
            task_accuracy(model, [make_pair()])
    finally:
        model.eval()
