"""The circuits' tasks: multiple choice, addition and ARC, their counterfactuals and foils."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from hvp_patching.models import load_tokenizer
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.prompts import (
    PromptError,
    PromptPair,
    arc_easy,
    arithmetic_addition,
    as_token_pair,
    build,
    corrupt,
    mcqa,
    read_answers,
    read_prompts,
    write_prompts,
)
from hvp_patching.prompts.data_files import ENVIRONMENT_VARIABLE
from hvp_patching.prompts.registry import not_run

EMBEDDED = {"mcqa": "other_letters", "arithmetic_addition": "other_sum"}


def one_line(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("task", EMBEDDED)
def test_every_tiny_model_has_the_task_with_target_and_foil(name, task, tmp_path):
    model = load_tokenizer(name)
    frame, _ = build(model, task, EMBEDDED[task], 8)
    write_prompts(frame, tmp_path / "p.parquet")
    for pair, row in zip(read_prompts(tmp_path / "p.parquet"), frame.itertuples(), strict=True):
        assert len(pair.clean_ids) == len(pair.corrupted_ids)
        assert pair.foil_ids == tuple(row.foil_ids)
        assert len(pair.foil_ids) == 1
        assert pair.foil_ids != pair.target_ids
        assert row.foil == model.tokenizer.decode(pair.foil_ids)


def test_other_letters_keep_the_choices_and_name_the_right_one():
    model = load_tokenizer("tiny-gpt2")
    for pair in mcqa.pairs(60):
        color = re.search(r" are (\w+)\. What", pair.clean)[1]
        lines = dict(re.findall(r"\n([A-Z])\. (\w+)", pair.clean))
        assert lines[pair.target.strip()] == color
        assert len(set(lines.values())) == len(lines) == 4
        from hvp_patching.prompts.corruptions import other_letters

        changed = other_letters(model, pair)
        others = dict(re.findall(r"\n([A-Z])\. (\w+)", changed.corrupted))
        assert list(others.values()) == list(lines.values())
        assert not set(others) & set(lines)
        assert others[changed.foil.strip()] == color
        assert changed.corrupted.split("\n")[0] == pair.clean.split("\n")[0]


def test_right_places_are_balanced():
    places = pd.Series([pair.target for pair in mcqa.pairs(None)]).value_counts()
    assert set(places.index) == {" A", " B", " C", " D"}
    assert places.min() > 0.18 * places.sum()


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("What color is it?", " A", "does not end in lines 'A. …' and 'Answer:'"),
        ("What?\nA. red\nB. blue\nAnswer:", " C", "the target ' C' must be one of the choices'"),
        ("What?\nA. red\nA. blue\nAnswer:", " A", "which are A, A, each once"),
    ],
)
def test_what_is_no_multiple_choice_is_refused(text, target, expected):
    with pytest.raises(PromptError) as caught:
        corrupt(load_tokenizer("tiny-gpt2"), PromptPair(text, None, target, "p"), "other_letters")
    assert expected in one_line(caught)


def test_sums_are_right_and_the_digit_is_the_first_that_differs():
    for name, whole in (("tiny-gpt2", True), ("tiny-llama", False)):
        frame, _ = build(load_tokenizer(name), "arithmetic_addition", "other_sum", 40)
        for row in frame.itertuples():
            clean, other = (
                sum(map(int, re.search(r"(\d+)\+(\d+)=$", text).groups()))
                for text in (row.clean, row.corrupted)
            )
            assert 20 <= clean <= 99
            assert row.target == (str(clean) if whole else str(clean)[0])
            assert row.foil == (str(other) if whole else str(other)[0])
            assert row.target != row.foil
            assert len(row.answer_ids) == (0 if whole else 2)
        (metric,) = frame["metric"].unique()
        assert metric.endswith("the sum" if whole else "first differing digit (tens)")


def test_a_wrong_example_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    (tmp_path / "arithmetic_addition.yaml").write_text('examples: ["12+35=48"]\n')
    with pytest.raises(PromptError) as caught:
        arithmetic_addition.pairs(1)
    assert "the example '12+35=48' is no addition" in one_line(caught)


def test_a_counterfactual_of_another_length_and_a_foil_that_is_the_target_are_refused():
    model = load_tokenizer("tiny-gpt2")
    pair = PromptPair("The box is red", "The box is very red", " A", "p", " B")
    with pytest.raises(PromptError, match=r"'p': lengths differ after tokenisation"):
        as_token_pair(model, pair)
    with pytest.raises(PromptError) as caught:
        as_token_pair(model, replace(pair, corrupted="The box is blue", foil=" A"))
    assert "is foil and target at once; give another foil" in one_line(caught)


def _arc(path):
    rows = [
        {
            "id": f"q{i}",
            "question": f"Which one\nis number {i}?",
            "choices": {"text": ["red", "blue", "green", "pink"], "label": labels},
            "answerKey": labels[i % 4],
        }
        for i, labels in enumerate([list("ABCD"), list("1234"), list("ABCD")])
    ]
    rows.append(rows[0] | {"id": "q9", "choices": {"text": ["a", "b"], "label": ["A", "B"]}})
    pd.DataFrame(rows).to_parquet(path)


def test_arc_is_read_from_a_copy_with_letters_for_numbers(tmp_path, monkeypatch):
    model = load_tokenizer("tiny-gpt2")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    assert "not run in the profile embedded: " in not_run("arc_easy", "embedded")
    assert not_run("arc_easy", "paper") == not_run("mcqa", "embedded") == ""
    _arc(tmp_path / "arc_easy.parquet")
    assert not_run("arc_easy", "embedded") == ""
    pairs = {pair.prompt_id: pair for pair in arc_easy.pairs(None)}
    assert sorted(pairs) == ["arc_easy-q0", "arc_easy-q1", "arc_easy-q2"]  # four choices
    second = pairs["arc_easy-q1"]
    assert second.clean.startswith("Question: Which one is number 1?\nA. red\nB. blue\n")
    assert second.target == " B"
    assert corrupt(model, second, "other_letters").foil_ids


def test_arc_without_the_hub_or_with_a_damaged_copy_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(PromptError) as caught:
        arc_easy.pairs(1)
    text = one_line(caught)
    assert "could not be had from the Hub" in text
    assert f"put a copy at {tmp_path / 'arc_easy.parquet'}, or leave the task out" in text
    (tmp_path / "arc_easy.parquet").write_bytes(b"no parquet")
    with pytest.raises(PromptError) as caught:
        arc_easy.pairs(1)
    assert "fetch it again" in one_line(caught)


def test_answers_are_read_back(tmp_path):
    frame, _ = build(load_tokenizer("tiny-llama"), "arithmetic_addition", "other_sum", 3)
    write_prompts(frame, tmp_path / "p.parquet")
    answers = read_answers(tmp_path / "p.parquet")
    assert list(answers) == list(frame["prompt_id"])
    for row in frame.itertuples():
        assert answers[row.prompt_id].whole == tuple(row.answer_ids)
        assert answers[row.prompt_id].chance == 0
    frame, _ = build(load_tokenizer("tiny-llama"), "mcqa", "other_letters", 1)
    write_prompts(frame, tmp_path / "p.parquet")
    assert next(iter(read_answers(tmp_path / "p.parquet").values())).chance == 0.25
