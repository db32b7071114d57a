"""Any file of prompts gives prompts, or is refused in one line that names it."""

from __future__ import annotations

import csv
import io
import os
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hvp_patching.prompts import ioi
from hvp_patching.prompts.data_files import ENVIRONMENT_VARIABLE, data_folder
from hvp_patching.prompts.pair import PromptError
from hvp_patching.prompts.registry import get_task

SOME, MANY = 250, 2000  # cases; the many on demand: pytest -m fuzz
TASKS = ("ioi", "greater_than", "factual", "entity_swap", "mcqa", "arithmetic_addition")
LISTS = {name: data_folder() / f"{name}.yaml" for name in TASKS[:2] + TASKS[4:]}
TABLES = {name: data_folder() / f"{name}.csv" for name in ("factual", "entity_swap")}
WORDS = st.one_of(
    st.sampled_from(
        [
            *(
                "Mary",
                " Mary",
                "Mary ",
                "",
                " ",
                "\n",
                "\t",
                "a\nb",
                "é",
                "\ud800",
                "\0",
                "\x1b[31m",
            ),
            *(
                "{first}",
                "{}",
                "{",
                "}",
                "{{x}}",
                "{first!r}",
                "{first.__class__}",
                "{0}",
                "{nope}",
            ),
            *("{first:>1000000000}", "{first} {second} {subject} {place} {object}", "{entity}"),
            *("12+35=47", "12+35=48", "yes", "null", "x" * 300, "The {entity} is", "a b"),
        ]
    ),
    st.text(max_size=8),
)
ENTRIES = st.one_of(
    *(WORDS, st.none(), st.booleans(), st.integers(), st.floats(), st.dates()),
    *(st.lists(WORDS, max_size=2), st.dictionaries(WORDS, WORDS, max_size=2)),
)


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))


def outcome(task: str, file: str, content: bytes) -> list[str]:
    """The first prompts of the task from this content of its file; [] where it is refused.

    A refusal is one line that names the file, and takes no memory to speak of.
    """
    path = Path(os.environ[ENVIRONMENT_VARIABLE]) / file
    path.write_bytes(content)
    os.utime(path, ns=(outcome.clock, outcome.clock))  # type: ignore[attr-defined]
    outcome.clock += 1_000_000_000  # type: ignore[attr-defined]
    tracemalloc.start()
    try:
        return [pair.clean for pair in islice(get_task(task).candidates(0), 5)]
    except PromptError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert file in message
    assert "\n" not in message
    assert len(message) < 2000
    assert peak < 64 << 20
    return []


outcome.clock = 1_600_000_000_000_000_000  # type: ignore[attr-defined]


def lists_are_read_or_named(task: str, changes: list[tuple[int, str, Any]]) -> None:
    content = yaml.safe_load(LISTS[task].read_text(encoding="utf-8"))
    content = {key: entries[:6] for key, entries in content.items()}
    for number, how, value in changes:
        key = sorted(content)[number % len(content)] if content else "names"
        entries = content.get(key)
        if how == "entry" and isinstance(entries, list) and entries:
            entries[number % len(entries)] = value
        elif how == "delete":
            content.pop(key, None)
        elif how == "cut" and isinstance(entries, list):
            content[key] = entries[:1]
        else:
            content[key] = value
    text = yaml.safe_dump(content, allow_unicode=True)
    for prompt in outcome(task, f"{task}.yaml", text.encode("utf-8", "surrogatepass")):
        assert prompt.strip()


def rows_are_read_or_named(task: str, changes: list[tuple[int, int, str]], cells: int) -> None:
    with TABLES[task].open(encoding="utf-8", newline="") as lines:
        rows = list(islice(csv.reader(lines), 8))
    for row, column, value in changes:
        rows[row % len(rows)][column % len(rows[0])] = value
    rows[-1] = rows[-1][:cells] if cells else rows[-1]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    for prompt in outcome(task, f"{task}.csv", text.getvalue().encode("utf-8", "surrogatepass")):
        assert prompt == prompt.strip() != ""


def bytes_are_read_or_named(task: str, faults: list[tuple[int, bytes]], length: int) -> None:
    path = {**LISTS, **TABLES}[task]
    raw = bytearray(path.read_bytes()[:3000])
    for place, piece in faults:
        at = place % len(raw)
        raw[at : at + len(piece)] = piece
    outcome(task, path.name, bytes(raw[: length or None]))


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 99), st.sampled_from(["entry", "entry", "whole", "delete", "cut"]), ENTRIES
    ),
    min_size=1,
    max_size=3,
)
OF_LISTS = given(st.sampled_from(sorted(LISTS)), CHANGES)
OF_ROWS = given(
    st.sampled_from(sorted(TABLES)),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), WORDS), min_size=1, max_size=3),
    st.sampled_from([0, 0, 0, 1, 2]),
)
PIECES = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.sampled_from([b'"', b"[", b"]", b"{", b": ", b"\n", b"\n- ", b"!!int x", b"&a *a", b"\xff"]),
)
OF_BYTES = given(
    st.sampled_from(TASKS),
    st.lists(st.tuples(st.integers(0, 10**6), PIECES), min_size=1, max_size=4),
    st.sampled_from([0, 0, 0, 10, 100, 1000]),
)
some = settings(max_examples=SOME, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(max_examples=MANY, suppress_health_check=[HealthCheck.function_scoped_fixture])


@example("ioi", [(2, "cut", None), (0, "cut", None), (1, "cut", None), (3, "cut", None)])
@example("ioi", [(1, "cut", None)])
@OF_LISTS
@some
def test_lists_give_prompts_or_are_named(task, changes):
    lists_are_read_or_named(task, changes)


@OF_ROWS
@some
def test_rows_give_prompts_or_are_named(task, changes, cells):
    rows_are_read_or_named(task, changes, cells)


@OF_BYTES
@some
def test_bytes_give_prompts_or_are_named(task, faults, length):
    bytes_are_read_or_named(task, faults, length)


@pytest.mark.fuzz
@OF_LISTS
@many
def test_many_lists_give_prompts_or_are_named(task, changes):
    lists_are_read_or_named(task, changes)


@pytest.mark.fuzz
@OF_ROWS
@many
def test_many_rows_give_prompts_or_are_named(task, changes, cells):
    rows_are_read_or_named(task, changes, cells)


@pytest.mark.fuzz
@OF_BYTES
@many
def test_many_bytes_give_prompts_or_are_named(task, faults, length):
    bytes_are_read_or_named(task, faults, length)


def aliases() -> Iterator[str]:
    yield "nouns: [&a0 [x, x]"
    for i in range(1, 30):
        yield f", &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]"
    yield "]\n"


@pytest.mark.parametrize(
    ("task", "file", "content", "words"),
    [
        ("greater_than", "greater_than.yaml", "nouns: [war, ~]", "'nouns' has None, which is not"),
        ("greater_than", "greater_than.yaml", "nouns: [war, ' ']", "nothing but white space"),
        (
            "greater_than",
            "greater_than.yaml",
            'nouns: ["\\uD800"]',
            "is not readable YAML (line 1: ",
        ),
        ("greater_than", "greater_than.yaml", 'nouns: ["a\\x00"]', "the control character"),
        ("greater_than", "greater_than.yaml", "nouns: [2001-99-99]", "is not readable YAML"),
        ("greater_than", "greater_than.yaml", "nouns: [!!int x]", "is not readable YAML"),
        ("greater_than", "greater_than.yaml", "[" * 5_000, "is not readable YAML"),
        ("greater_than", "greater_than.yaml", "nouns: ['\xff']", "is not readable YAML"),
        ("greater_than", "greater_than.yaml", "".join(aliases()), "which is not text"),
        ("factual", "factual.csv", "prompt,answer,relation\na,b ,c\n", "take the white space off"),
        ("factual", "factual.csv", "prompt,answer,relation\na,b,\n", "does not fill exactly 3"),
        ("factual", "factual.csv", 'prompt,answer,relation\n"a,b,c\n', "not a readable CSV file"),
        ("factual", "factual.csv", "prompt,answer,relation\na,\xff,c\n", "not a readable CSV file"),
        ("factual", "factual.csv", "prompt,answer,relation\na," + "b" * 200_000, "not a readable"),
        (
            "entity_swap",
            "entity_swap.csv",
            "relation,template,entity,answer\na b,{entity} is,x,y\n",
            "the relation 'a b' stands in ids",
        ),
    ],
)
def test_what_was_found_is_named(task, file, content, words, tmp_path):
    (tmp_path / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(PromptError) as caught:
        next(iter(get_task(task).candidates(0)))
    message = str(caught.value)
    assert words in message
    assert file in message
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{first.__class__.__mro__}", "has a place {first.__class__.__mro__} that is not one of"),
        ("{first:>1000000000}", "has a place {first} that is not one of {first}, {second}"),
        ("{first!r}", "has a place {first}"),
        ("{}", "has a place {}"),
        ("{nope}", "has a place {nope}"),
        ("{first", "has a stray brace"),
        ("first}", "has a stray brace"),
    ],
)
def test_a_template_only_names_places(template, words, tmp_path):
    lists = {"templates": [template], "names": ["A", "B"], "places": ["x"], "objects": ["y"]}
    (tmp_path / "ioi.yaml").write_text(yaml.safe_dump(lists))
    with pytest.raises(PromptError) as caught:
        ioi.pairs(1)
    assert words in str(caught.value)
    assert str(caught.value).startswith("ioi.yaml: the template ")


def test_short_lists_give_the_prompts_there_are_and_no_more(tmp_path):
    """Prompts are drawn until one is new: where none is left, that would never end."""
    template = "When {first} and {second} met at the {place}, {subject} gave a {object} to"
    lists = {"templates": [template], "names": ["Ann", "Bob"], "places": ["x"], "objects": ["y"]}
    (tmp_path / "ioi.yaml").write_text(yaml.safe_dump(lists))
    pairs = ioi.pairs(None)
    assert 2 <= len(pairs) <= 4
    assert len({pair.clean for pair in pairs}) == len(pairs)
    with pytest.raises(PromptError, match="ioi': 50 prompts needed and only"):
        ioi.pairs(50)
    (tmp_path / "ioi.yaml").write_text(yaml.safe_dump(lists | {"names": ["Ann"]}))
    os.utime(tmp_path / "ioi.yaml", ns=(1, 1))
    with pytest.raises(PromptError, match="one name; give two at least"):
        ioi.pairs(1)


def test_a_spreadsheets_mark_before_the_first_column_is_no_part_of_it(tmp_path):
    rows = "prompt,answer,relation\nThe sky is,blue,colour\n"
    (tmp_path / "factual.csv").write_text(rows, encoding="utf-8-sig")
    (pair,) = get_task("factual").candidates(0)
    assert (pair.clean, pair.target) == ("The sky is", " blue")


@pytest.mark.parametrize(
    "centuries", [None, 1.5, {17: 1}, [17.0], [True], ["17"], [[17]], [10**400]]
)
def test_centuries_of_another_kind_are_refused(centuries, tmp_path):
    (tmp_path / "greater_than.yaml").write_text("nouns: [war]\n")
    with pytest.raises(PromptError) as caught:
        list(islice(get_task("greater_than").candidates(0, centuries=centuries), 1))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
