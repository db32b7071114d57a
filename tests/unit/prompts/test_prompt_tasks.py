"""The tasks: distinct, seeded prompts, and targets that fit the tokenizer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvp_patching.prompts import (
    TASKS,
    Donors,
    PromptError,
    PromptPair,
    UnfitPrompt,
    arithmetic_addition,
    entity_swap,
    factual,
    get_task,
    greater_than,
    ioi,
    mcqa,
)
from hvp_patching.prompts.data_files import ENVIRONMENT_VARIABLE, read_lists, read_table
from hvp_patching.prompts.seeded import draw, shuffled
from hvp_patching.prompts.task import plain_target

MODULES = [ioi, greater_than, factual, entity_swap, mcqa, arithmetic_addition]
LARGEST = {
    "ioi": 3000,
    "greater_than": 200,
    "factual": 110,
    "entity_swap": 400,
    "mcqa": 400,
    "arithmetic_addition": 3000,
}
CAPITALISED = {
    "capital",
    "language",
    "author",
    "artist",
    "invention",
    "history",
    "landmark",
    "geography",
    "planet",
    "calendar",
}
LOWER_CASE = {"currency", "chemistry", "animal", "science"}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("seed", [0, 3])
def test_a_smaller_request_is_the_start_of_a_larger_one(module, seed):
    everything = module.pairs(None, seed)
    assert len(everything) >= LARGEST[module.TASK.name]
    for n in (1, 2, 17, 18, 100):
        assert module.pairs(n, seed) == everything[:n]


@pytest.mark.parametrize("module", MODULES)
def test_prompts_are_distinct_tidy_and_long_enough(module):
    pairs = module.pairs(None)
    for what in ("clean", "prompt_id"):
        twice = [k for k, n in Counter(getattr(p, what) for p in pairs).items() if n > 1]
        assert not twice
    for pair in pairs:
        assert pair.clean == pair.clean.strip()
        assert "  " not in pair.clean
        assert "{" not in pair.clean
        # The corrupted position is 3, and should not be the last one.
        assert len(pair.clean.split()) >= 5
        assert pair.corrupted is None
        assert pair.prompt_id.startswith(f"{module.TASK.name}-")


@pytest.mark.parametrize("module", MODULES)
def test_seeds_give_other_orders(module):
    first, second = module.pairs(20, 0), module.pairs(20, 1)
    assert first != second
    by_id = {pair.prompt_id: pair for pair in module.pairs(None, 0)}
    shared = [pair for pair in module.pairs(None, 1) if pair.prompt_id in by_id]
    assert all(by_id[pair.prompt_id] == pair for pair in shared)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_asking_for_no_prompt_is_an_error(module, n):
    with pytest.raises(PromptError) as caught:
        module.pairs(n)
    assert str(caught.value) == (
        f"task {module.TASK.name!r}: {n!r} prompts asked for, which leaves an empty prompt list; "
        "ask for at least 1"
    )


@pytest.mark.parametrize("module", MODULES)
def test_asking_for_too_many_names_both_numbers(module):
    n = len(module.pairs(None))
    with pytest.raises(PromptError, match=f"{n + 1} prompts needed and only {n} exist"):
        module.pairs(n + 1)


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(PromptError) as caught:
        get_task("io")
    assert str(caught.value) == (
        "unknown task 'io'; known: ioi, greater_than, factual, entity_swap, mcqa, "
        "arithmetic_addition, arc_easy"
    )
    assert all(get_task(name).name == name for name in TASKS)


def test_ioi_alternates_the_orders_of_the_names():
    for index, pair in enumerate(ioi.pairs(300)):
        found = [word for word in re.findall(r"\w+", pair.clean) if word in ioi.names()]
        target = pair.target.removeprefix(" ")
        assert len(found) == 3
        assert found.count(target) == 1
        subject = found[2]
        assert found == (
            [target, subject, subject] if index % 2 == 0 else [subject, target, subject]
        )
        # A name that opened the text would be another token than with a space before it.
        assert not pair.clean.startswith(found[0])


def test_ioi_uses_every_template_and_most_names():
    texts = [pair.clean for pair in ioi.pairs(300)]
    for template in read_lists("ioi.yaml", ("templates",))["templates"]:
        start = template.split("{")[0]
        assert any(text.startswith(start) for text in texts), template
    used = {word for text in texts for word in re.findall(r"\w+", text)}
    assert len(used & set(ioi.names())) > 45


def test_ioi_objects_follow_a():
    data = read_lists("ioi.yaml", ("objects",))
    assert not [word for word in data["objects"] if word[0] in "aeiou"]


def test_greater_than_asks_for_every_later_year():
    for pair in greater_than.pairs(300):
        year = int(re.search(r"17(\d\d) to", pair.clean)[1])
        assert 2 <= year <= 98
        assert pair.target == tuple(f"{later:02d}" for later in range(year + 1, 100))
        assert pair.clean.endswith("to the year 17")


def test_greater_than_other_centuries_are_an_option():
    assert all(" 17" in pair.clean for pair in greater_than.pairs(None))
    found = {pair.clean[-2:] for pair in greater_than.pairs(50, centuries=(12, 19))}
    assert found == {"12", "19"}
    with pytest.raises(PromptError, match=r"century 170 is not among 10 to 20"):
        greater_than.pairs(1, centuries=(170,))
    with pytest.raises(PromptError, match=r"centuries is 17; give a list, such as \[17\]"):
        greater_than.pairs(1, centuries=17)


def prompt(year: int) -> PromptPair:
    return PromptPair(f"The war lasted from the year 17{year:02d} to the year 17", prompt_id="gt")


@pytest.mark.parametrize("year", [2, 9, 10, 32, 89, 98])
def test_two_digit_tokens_give_all_years_above(model_with_years, year):
    ids = model_with_years.tokenizer(prompt(year).clean, add_special_tokens=False)["input_ids"]
    assert model_with_years.tokenizer.decode(ids[-1:]) == " 17"
    pair, metric = greater_than.settle(model_with_years, prompt(year))
    assert pair.target == tuple(f"{later:02d}" for later in range(year + 1, 100))
    assert metric == "log-probability mass of the target set: two-digit years above XX"
    pair, metric = greater_than.settle(model_with_years, prompt(year), target="single")
    assert pair.target == f"{year + 1:02d}"
    assert metric == "log-probability of the target: XX+1"


@pytest.mark.parametrize("year", [2, 9, 10, 32, 89])
def test_single_digit_tokens_give_the_tens_digits_above(model, model_with_bos, year):
    for one in (model, model_with_bos):
        pair, metric = greater_than.settle(one, prompt(year))
        assert pair.target == tuple("123456789"[year // 10 :])
        assert metric == "log-probability mass of the target set: tens digits above X"
        pair, metric = greater_than.settle(one, prompt(year), target="single")
        assert pair.target == str(year // 10 + 1)
        assert metric == "log-probability of the target: tens digit X+1"


def unsettled(model, pair: PromptPair, **options: str) -> str:
    with pytest.raises(PromptError) as caught:
        greater_than.settle(model, pair, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_year_of_the_nineties_has_no_tens_digit_above(model):
    assert unsettled(model, prompt(94)) == (
        "prompt 'gt': no tens digit is above the 9 of year 94; use a year below 90"
    )


def test_a_tokenizer_of_three_digits_is_refused_with_its_pieces(make_model):
    assert unsettled(make_model("triples"), prompt(32)) == (
        "prompt 'gt': the tokenizer splits the year as ' ' + '173' + '2', not as '17' followed by "
        "'32'; leave this prompt out"
    )


def test_a_year_that_merges_whole_is_refused(make_model):
    # GPT-2 has tokens such as " 1776" beside " 17" and the two-digit strings.
    class Merging:
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, text, **options):
            if isinstance(text, str) and " 1776 " in text + " ":
                start = text.index(" 1776")
                before, after = text[:start], text[start + 5 :]
                ids = [self.inner(part, **options)["input_ids"] for part in (before, after)]
                return {"input_ids": [*ids[0], 2999, *ids[1]]}
            return self.inner(text, **options)

        def decode(self, ids):
            return " 1776" if ids == [2999] else self.inner.decode(ids)

    model = make_model("pairs")
    merging = type(model)(tokenizer=Merging(model.tokenizer), hvp_spec=model.hvp_spec)
    assert "splits the year as ' 1776', not as '17' followed by '76'" in unsettled(
        merging, prompt(76)
    )
    assert greater_than.settle(merging, prompt(75))[0].target[0] == "76"


def test_a_tokenizer_with_some_two_digit_tokens_is_refused(make_model):
    class Some:
        def __init__(self, inner):
            self.inner, self.decode = inner, inner.decode

        def __call__(self, text, **options):
            if isinstance(text, list):
                split = [self.inner(one, **options)["input_ids"] for one in text]
                return {"input_ids": [*split[:99], split[9] + split[9]]}
            return self.inner(text, **options)

    model = make_model("pairs")
    some = type(model)(tokenizer=Some(model.tokenizer), hvp_spec=model.hvp_spec)
    assert (
        "keeps 99 of the 100 strings 00 to 99 as one token and splits others, such as '09' + '09'"
        in unsettled(some, prompt(32))
    )


def test_other_texts_and_unknown_targets_are_refused(model):
    text = unsettled(model, PromptPair("The war lasted from the year 1732 to 17", prompt_id="gt"))
    assert text.startswith("prompt 'gt': the text does not end in '17XX to the year 17'; follow ")
    assert unsettled(model, prompt(32), target="both") == (
        "unknown target 'both' for greater_than; known: set, single"
    )


def test_a_target_that_merges_with_the_prompt_is_refused(model):
    pair = PromptPair("The largest planet is Jup", target="iter", prompt_id="p")
    vocabulary = model.tokenizer.get_vocab()
    last = next(word for word in ("Jupiter", "Saturn") if f"Ġ{word}" in vocabulary)
    cut = next(i for i in range(1, len(last)) if last[i:] in vocabulary)
    pair = replace(pair, clean=f"The planet is {last[:cut]}", target=last[cut:])
    with pytest.raises(PromptError, match="the target must not merge with the prompt"):
        plain_target(model, pair)
    with pytest.raises(PromptError, match="this task has one target"):
        plain_target(model, replace(pair, target=(" a", " b")))


def test_facts_are_distinct_and_spelled_as_their_relation_asks():
    rows = read_table("factual.csv", ("prompt", "answer", "relation"))
    assert len(rows) >= 110
    assert len({row["prompt"].lower() for row in rows}) == len(rows)
    assert {row["relation"] for row in rows} == CAPITALISED | LOWER_CASE
    for row in rows:
        assert re.fullmatch(r"[A-Za-z]+", row["answer"]), row
        assert row["answer"][0].isupper() == (row["relation"] in CAPITALISED), row
        assert not re.search(rf"\b{row['answer']}\b", row["prompt"], re.IGNORECASE), row


def test_facts_that_ask_for_one_answer_have_one():
    rows = read_table("factual.csv", ("prompt", "answer", "relation"))
    capitals = [row["answer"] for row in rows if row["relation"] == "capital"]
    assert len(set(capitals)) == len(capitals)


def test_entities_are_distinct_and_do_not_give_their_answer_away():
    rows = read_table("entity_swap.csv", entity_swap.COLUMNS)
    for row in rows:
        assert re.fullmatch(r"[A-Za-z]+", row["answer"]), row
        assert not re.search(rf"\b{row['answer']}\b", row["entity"], re.IGNORECASE), row
        assert row["template"].count("{entity}") == 1
        assert row["entity"] == row["entity"].strip()
    named = Counter((row["relation"], row["entity"].lower()) for row in rows)
    assert max(named.values()) == 1
    relations = {row["relation"]: row["template"] for row in rows}
    assert all(relations[row["relation"]] == row["template"] for row in rows)
    # A swap needs another answer of the same relation.
    for relation in relations:
        assert len({row["answer"] for row in rows if row["relation"] == relation}) >= 4


def test_the_id_of_an_entity_names_its_relation():
    by_text = {row["template"].format(entity=row["entity"]): row for row in _entities()}
    for pair in entity_swap.pairs(None):
        row = by_text[pair.clean]
        assert entity_swap.relation(pair) == row["relation"]
        assert pair.target == f" {row['answer']}"
    with pytest.raises(PromptError, match="whose id names a relation, and this one's is 'mine'"):
        entity_swap.relation(PromptPair("The Louvre is in", None, " Paris", "mine"))


def _entities() -> list[dict[str, str]]:
    return read_table("entity_swap.csv", entity_swap.COLUMNS)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["a,{entity} is,x,y", "a,The {entity} is,z,w"], "and be that of its relation"),
        (["a,it is,x,y"], "must have {entity} once"),
        (["a,{entity} {entity} is,x,y"], "must have {entity} once"),
        (["a,{entity} is,x,y", "a,{entity} is,x,w"], "'x is' stands twice; remove one"),
        (["a,{entity} is,x"], "row 2 does not fill exactly 4"),
    ],
)
def test_bad_entities_are_named(tmp_path, monkeypatch, rows, expected):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    (tmp_path / "entity_swap.csv").write_text("\n".join([",".join(entity_swap.COLUMNS), *rows]))
    with pytest.raises(PromptError) as caught:
        entity_swap.pairs(1)
    assert expected in str(caught.value)
    assert "entity_swap.csv" in str(caught.value)


def test_donors_come_in_an_order_of_their_own_for_each_key():
    pairs = [PromptPair("a", prompt_id=f"p{i}") for i in range(30)]
    orders = [[pair.prompt_id for pair in Donors(pairs).drawn("key", i)] for i in range(40)]
    assert all(sorted(order) == sorted(pair.prompt_id for pair in pairs) for order in orders)
    assert len({order[0] for order in orders}) > 15
    fewer = [pair.prompt_id for pair in Donors(pairs[::-1][5:]).drawn("key", 0)]
    assert fewer == [name for name in orders[0] if name in fewer]


def test_donors_that_do_not_fit_are_passed_over():
    def settle(pair: PromptPair) -> PromptPair:
        if pair.prompt_id in {"p1", "p3"}:
            raise UnfitPrompt("no", "no")
        return replace(pair, target=" settled")

    pairs = [PromptPair("a", prompt_id=f"p{i}") for i in range(5)]
    found = list(Donors(pairs, settle).drawn("key"))
    assert sorted(pair.prompt_id for pair in found) == ["p0", "p2", "p4"]
    assert {pair.target for pair in found} == {" settled"}


def test_an_added_fact_moves_no_other(tmp_path, monkeypatch):
    before = [pair.prompt_id for pair in factual.pairs(None)]
    rows = read_table("factual.csv", ("prompt", "answer", "relation"))
    lines = ["prompt,answer,relation", "The number that follows one is,two,science"]
    lines += [f'"{row["prompt"]}",{row["answer"]},{row["relation"]}' for row in reversed(rows)]
    (tmp_path / "factual.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    after = [pair.prompt_id for pair in factual.pairs(None)]
    added = set(after) - set(before)
    assert len(added) == 1
    assert [name for name in after if name not in added] == before


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("ioi.yaml", None, "no prompt data at "),
        ("ioi.yaml", "templates: [a]\n", "'names' must be a list of strings, and is missing"),
        ("ioi.yaml", "- a\n", "'templates' must be a list of strings, and is missing"),
        ("ioi.yaml", "templates: [a, a]\n", "'templates' has 'a' twice; remove one"),
        ("ioi.yaml", "templates: [yes]\n", "'templates' has True, which is not text"),
        ("ioi.yaml", "templates: [a\n", "is not readable YAML"),
        ("factual.csv", None, "no prompt data at "),
        ("factual.csv", "prompt,answer\n", "its columns are ['prompt', 'answer'], and must be"),
        ("factual.csv", "prompt,answer,relation\na,b c,\n", "row 2 does not fill exactly 3"),
        ("factual.csv", "prompt,answer,relation\na,b,c,d\n", "row 2 does not fill exactly 3"),
        ("factual.csv", "prompt,answer,relation\na,b,c\na,d,c\n", "'a' stands twice; remove one"),
    ],
)
def test_bad_data_files_are_named(tmp_path, monkeypatch, name, content, expected):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    if content is not None:
        (tmp_path / name).write_text(content)
    module = ioi if name == "ioi.yaml" else factual
    with pytest.raises(PromptError) as caught:
        module.pairs(1)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    if content is None:
        assert ENVIRONMENT_VARIABLE in str(caught.value)


@given(st.lists(st.text(min_size=1), unique=True, max_size=20), st.integers(0, 9), st.data())
def test_leaving_names_out_keeps_the_order_of_the_rest(names, seed, data):
    whole = shuffled(names, seed)
    some = data.draw(st.sets(st.sampled_from(names))) if names else set()
    assert sorted(whole) == sorted(names)
    assert shuffled(some, seed) == [name for name in whole if name in some]


def test_draws_are_uniform_and_pinned():
    counts = Counter(draw(5, "key", i) for i in range(5000))
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert all(abs(count - 1000) < 150 for count in counts.values())
    # Pinned: another value would silently change every prompt and corruption of the project.
    assert draw(10**6, 0, "ioi-0007", 3) == 982125
