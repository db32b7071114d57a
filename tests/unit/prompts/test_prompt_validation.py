"""Validated prompt lists: what is kept, what is reported, and the files."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from hvp_patching.files import WriteError
from hvp_patching.prompts import (
    TASKS,
    PromptError,
    TokenPair,
    as_token_pair,
    build,
    read_prompts,
    validation,
    write_prompts,
)

COLUMNS = [
    "prompt_id",
    "clean",
    "corrupted",
    "clean_ids",
    "corrupted_ids",
    "target_ids",
    "target",
    "n_pos",
    "first_changed",
    "metric",
    "foil",
    "foil_ids",
    "answer_ids",
    "choice_ids",
]
OURS = {name: task for name, task in TASKS.items() if not task.profiles}  # ARC is on the Hub
COMBINATIONS = [
    (name, corruption) for name, task in OURS.items() for corruption in task.corruptions
]


def refused(*arguments, **options) -> str:
    with pytest.raises(PromptError) as caught:
        build(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_those_of_the_reading():
    found = {name: task.default_corruption for name, task in TASKS.items()}
    assert found == {
        "ioi": "name_swap",
        "greater_than": "random_token",
        "factual": "random_token",
        "entity_swap": "entity_swap",
        "mcqa": "other_letters",
        "arithmetic_addition": "other_sum",
        "arc_easy": "other_letters",
    }


def test_every_task_but_entity_swap_keeps_its_own_and_adds_resample_and_zero():
    assert all({"resample", "zero"} < set(task.corruptions) for task in TASKS.values())
    assert [name for name, task in TASKS.items() if "entity_swap" in task.corruptions] == [
        "entity_swap"
    ]


@pytest.mark.parametrize(("task", "corruption"), COMBINATIONS)
def test_rows_say_what_their_ids_say(model_with_bos, task, corruption):
    frame, report = build(model_with_bos, task, corruption, 30)
    assert list(frame.columns) == COLUMNS
    assert len(frame) == 30
    assert list(report.columns) == ["prompt_id", "prompt", "reason"]
    tokenizer = model_with_bos.tokenizer
    for row in frame.itertuples():
        assert row.n_pos == len(row.clean_ids) == len(row.corrupted_ids)
        assert tokenizer.decode(row.clean_ids[1:]) == row.clean
        assert tokenizer.decode(row.corrupted_ids[1:]) == row.corrupted
        assert [tokenizer.decode([i]) for i in row.target_ids] == row.target.split("|")
        if corruption == "zero":
            assert (row.first_changed, row.corrupted_ids) == (0, row.clean_ids)
            continue
        assert row.clean_ids[: row.first_changed] == row.corrupted_ids[: row.first_changed]
        assert row.clean_ids[row.first_changed] != row.corrupted_ids[row.first_changed]
        assert row.metric.startswith("log-probability")


@pytest.mark.parametrize("task", ["ioi", "greater_than", "factual"])
@pytest.mark.parametrize("digits", ["single", "pairs"])
def test_resampled_prompts_are_prompts_of_the_task_with_other_targets(make_model, task, digits):
    model = make_model(digits)
    frame, _ = build(model, task, "resample", 40)
    texts = {pair.clean: pair for pair in TASKS[task].candidates(0)}
    for row in frame.itertuples():
        donor, _ = TASKS[task].settle(model, texts[row.corrupted])
        target = donor.target if isinstance(donor.target, str) else "|".join(donor.target)
        assert target != row.target
    # The draw is the prompt's own: few share a donor.
    assert frame["corrupted"].nunique() > 25


@pytest.mark.parametrize("digits", ["single", "pairs"])
def test_entities_are_swapped_within_their_relation_and_used_once(make_model, digits):
    frame, report = build(make_model(digits), "entity_swap", "entity_swap", 200)
    assert frame["clean"].is_unique
    relation = {
        pair.clean: pair.prompt_id.split("-")[1] for pair in TASKS["entity_swap"].candidates()
    }
    for row in frame.itertuples():
        assert relation[row.clean] == relation[row.corrupted]
        assert sum(a != b for a, b in zip(row.clean_ids, row.corrupted_ids, strict=True)) >= 2
    assert len(report) < 40


@pytest.mark.parametrize(("task", "corruption"), COMBINATIONS)
def test_one_more_prompt_adds_one_row(model, task, corruption):
    smaller, report = build(model, task, corruption, 24, seed=2)
    larger, longer_report = build(model, task, corruption, 25, seed=2)
    pd.testing.assert_frame_equal(larger.head(24), smaller)
    pd.testing.assert_frame_equal(longer_report.head(len(report)), report)
    again, _ = build(model, task, corruption, 25, seed=2)
    pd.testing.assert_frame_equal(again, larger)


@pytest.mark.parametrize("digits", ["single", "pairs"])
def test_enough_prompts_for_the_paper_survive(make_model, digits):
    model = make_model(digits)
    for task, corruption, n in [
        ("ioi", "name_swap", 280),
        ("greater_than", "random_token", 200),
        ("factual", "random_token", 80),
        ("entity_swap", "entity_swap", 46),
    ]:
        assert len(build(model, task, corruption, n)[0]) == n


def test_the_convention_of_the_target_is_recorded(model, model_with_years):
    for one, convention in ((model, "tens digits above X"), (model_with_years, "two-digit years")):
        frame, _ = build(one, "greater_than", "random_token", 10)
        assert all(convention in metric for metric in frame["metric"])
        single, _ = build(one, "greater_than", "random_token", 10, options={"target": "single"})
        assert {len(ids) for ids in single["target_ids"]} == {1}
        assert not single["metric"].str.contains("mass").any()


def test_what_is_dropped_is_reported_in_order_with_its_reason(model):
    frame, report = build(model, "greater_than", "random_token", 60)
    assert len(report) > 0
    for row in report.itertuples():
        assert re.search(r"year 179\d to", row.prompt)
        assert row.reason.startswith(f"prompt {row.prompt_id!r}: no tens digit is above the 9")
    assert not set(report["prompt_id"]) & set(frame["prompt_id"])
    wanted = [p.prompt_id for p in TASKS["greater_than"].candidates(0)][: len(frame) + len(report)]
    assert sorted(wanted) == sorted([*frame["prompt_id"], *report["prompt_id"]])


def test_too_few_prompts_names_need_fit_and_commonest_reason(make_model, tmp_path, monkeypatch):
    single, triples = make_model("single"), make_model("triples")  # from the usual data
    text = refused(single, "ioi", "name_swap", 10**6)
    assert text.endswith("every candidate fits, there are no more")
    (tmp_path / "greater_than.yaml").write_text("nouns: [war, siege]\n")
    monkeypatch.setenv("HVP_PATCHING_DATA", str(tmp_path))
    # Of 02 to 98, the years 90 to 98 have no tens digit above them.
    text = refused(single, "greater_than", "random_token", 180)
    assert text.startswith(
        "task 'greater_than': 180 prompts needed and only 176 fit this model's tokenizer; ask for "
        "at most 176; most common reason: no target above the year (18 of 18 dropped), such as "
        "prompt 'greater_than-"
    )
    text = refused(triples, "greater_than", "random_token", 1)
    assert text.startswith(
        "task 'greater_than': 1 prompts needed and only 0 fit this model's tokenizer; leave this "
        "task out for this model; most common reason: year not split after the century (194 of 194 "
    )


@pytest.mark.parametrize("n", [0, -3, None])
def test_an_empty_request_is_refused(model, n):
    text = refused(model, "ioi", "name_swap", n)
    assert text.startswith("task 'ioi': ")
    assert text.endswith("ask for at least 1")


def test_unknown_names_list_the_known_ones(model):
    assert refused(model, "oi", "name_swap", 1) == (
        "unknown task 'oi'; known: ioi, greater_than, factual, entity_swap, "
        "mcqa, arithmetic_addition, arc_easy"
    )
    assert refused(model, "ioi", "swap", 1) == (
        "unknown corruption 'swap'; known: name_swap, abc, random_token, resample, zero, "
        "entity_swap, other_letters, other_sum"
    )
    assert refused(model, "factual", "abc", 1) == (
        "corruption 'abc' does not suit task 'factual'; known for it: random_token, resample, zero"
    )
    assert refused(model, "greater_than", "random_token", 1, options={"targt": "set"}) == (
        "unknown option 'targt' for task 'greater_than' with 'random_token'; "
        "known: centuries, position, target"
    )
    assert "known: none" in refused(model, "entity_swap", "entity_swap", 1, options={"position": 3})
    assert "unknown target 'all'" in refused(
        model, "greater_than", "random_token", 1, options={"target": "all"}
    )


def test_options_reach_the_task_and_the_corruption(model):
    options = {"centuries": [19], "position": 1}
    frame, _ = build(model, "greater_than", "random_token", 5, options=options)
    assert all(text.endswith("to the year 19") for text in frame["clean"])
    assert set(frame["first_changed"]) == {1}


def test_options_of_another_corruption_of_the_task_change_nothing(model):
    for corruption in ("resample", "zero"):
        with_position, _ = build(model, "factual", corruption, 5, options={"position": 2})
        pd.testing.assert_frame_equal(with_position, build(model, "factual", corruption, 5)[0])


def test_zero_corruption_survives_the_file(model, tmp_path):
    frame, _ = build(model, "ioi", "zero", 3)
    write_prompts(frame, tmp_path / "zero.parquet")
    pairs = read_prompts(tmp_path / "zero.parquet")
    assert {pair.corruption for pair in pairs} == {"zero"}
    assert all(pair.clean_ids == pair.corrupted_ids for pair in pairs)
    assert all(pair.first_changed == 0 for pair in pairs)
    assert [as_token_pair(model, pair) for pair in pairs] == pairs


def test_written_prompts_are_read_back_for_the_engine(model, tmp_path):
    frame, _ = build(model, "ioi", "name_swap", 5)
    path = tmp_path / "smol" / "ioi" / "name_swap.parquet"
    write_prompts(frame, path)
    pairs = read_prompts(path)
    assert pairs == [
        TokenPair(*map(tuple, ids), name, "name_swap", tuple(foil))
        for *ids, name, foil in frame[
            ["clean_ids", "corrupted_ids", "target_ids", "prompt_id", "foil_ids"]
        ].itertuples(index=False)
    ]
    assert all(len(pair.foil_ids) == 1 for pair in pairs)  # the subject
    assert [as_token_pair(model, pair) for pair in pairs] == pairs
    assert [p.name for p in path.parent.iterdir()] == ["name_swap.parquet"]
    assert pd.read_parquet(path).attrs == {"task": "ioi", "corruption": "name_swap", "seed": 0}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(model, tmp_path, monkeypatch):
    frame, _ = build(model, "ioi", "name_swap", 2)
    path = tmp_path / "prompts.parquet"
    write_prompts(frame, path)
    before = path.read_bytes()

    def full(self, target, **options):
        target.write_bytes(b"half a fi")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(WriteError) as caught:
        write_prompts(frame, path)
    assert str(caught.value) == (
        f"could not write {path}: No space left on device; free space or check the folder"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.parquet"]
    assert path.read_bytes() == before


def test_an_empty_list_is_neither_written_nor_read(tmp_path):
    path = tmp_path / "prompts.parquet"
    empty = pd.DataFrame(columns=COLUMNS)
    expected = "the prompt list is empty; ask for at least 1 prompt"
    with pytest.raises(PromptError, match=expected):
        write_prompts(empty, path)
    assert not path.exists()
    empty.to_parquet(path)
    with pytest.raises(PromptError, match=expected):
        read_prompts(path)


def test_files_that_cannot_be_read_are_named(model, tmp_path):
    path = tmp_path / "prompts.parquet"
    with pytest.raises(PromptError, match=r"no prompts at .*snakemake --cores 1 .*prompts.parquet"):
        read_prompts(path)
    frame, _ = build(model, "ioi", "name_swap", 2)
    write_prompts(frame, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PromptError, match=r"is damaged .*delete it and make it again") as caught:
        read_prompts(path)
    assert "\n" not in str(caught.value)
    frame.drop(columns="target_ids").to_parquet(path)
    with pytest.raises(PromptError, match="column 'target_ids' is missing"):
        read_prompts(path)
    pd.concat([frame, frame]).to_parquet(path)
    with pytest.raises(PromptError, match="prompt_id 'ioi-0000' stands twice"):
        read_prompts(path)
    frame.assign(corrupted_ids=frame["clean_ids"]).to_parquet(path)
    with pytest.raises(PromptError, match="prompt 'ioi-0000': clean and corrupted are identical"):
        read_prompts(path)


def test_lists_are_built_without_weights(model):
    assert set(vars(model)) == {"tokenizer", "hvp_spec"}
    assert len(build(model, "factual", "random_token", 3)[0]) == 3
    assert list(build(model, "ioi", "abc", 1)[1].columns) == validation.REPORT_COLUMNS
