"""Pairs of one's own: what is read, and every fault as one line with file and line."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp_patching.prompts.forms import PromptError, PromptPair
from hvp_patching.prompts.pairs_file import PairsFile, fit_pairs, read_pairs

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPTED = "When Mary and John went to the store, Mary gave a drink to"
QUOTED = f'"{CLEAN}","{CORRUPTED}", Mary'
HEADER = "clean,corrupted,target"


@pytest.fixture
def file(tmp_path):
    """Writes bytes or text into a file, and gives its path."""

    def write(content, name="pairs.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(found: PairsFile) -> list[tuple]:
    return [(row.line, row.pair.clean, row.pair.target, row.pair.foil) for row in found.rows]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_newlines_and_a_byte_order_mark(file, separator, newline, mark):
    rows = [
        ("clean", "corrupted", "target", "foil"),
        ("a b", "c b", " d", " e"),
        ("f", "g", "h", ""),
    ]
    path = file(mark + newline.join(separator.join(row) for row in rows) + newline)
    found = read_pairs(path)
    assert texts(found) == [(2, "a b", " d", " e"), (3, "f", "h", None)]
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [row.pair.prompt_id for row in found.rows] == ["line 2", "line 3"]


def test_columns_stand_in_any_order_and_quotes_keep_commas_and_lines(file):
    path = file('target;prompt_id; clean ;corrupted\n Mary;one;"a; ""b""\nc";d\n\n Tom;two;e;f\n')
    found = read_pairs(path)
    assert texts(found) == [(2, 'a; "b"\nc', " Mary", None), (5, "e", " Tom", None)]
    assert [row.pair.prompt_id for row in found.rows] == ["one", "two"]


def test_a_spreadsheet_names_its_separator(file):
    found = read_pairs(file("sep=;\r\nclean;corrupted;target\r\na,b;c,b; d\r\n"))
    assert texts(found) == [(3, "a,b", " d", None)]


def test_json_lines(file):
    rows = [
        {"clean": "a", "corrupted": "b", "target": 17, "foil": None},
        {"clean": "ü\u2028", "corrupted": "c", "target": [" d", 4], "prompt_id": "mine"},
    ]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    found = read_pairs(file(lines, "pairs.jsonl"))
    assert [row.pair for row in found.rows] == [
        PromptPair("a", "b", 17, "line 1"),
        PromptPair("ü\u2028", "c", (" d", 4), "mine"),
    ]


WHOLE = [
    ("", "is empty"),
    ("\ufeff\n \n", "is empty"),
    (HEADER + "\n", "has no pairs"),
    (f"{HEADER}\n".encode("utf-16"), "line 1: byte 0xff at offset 0 is no UTF-8"),
    (f"{HEADER}\na,b,c".encode("utf-16-le"), "byte 0x00 at offset 1 is no UTF-8"),
    (f"{HEADER}\na,b,ü".encode("latin-1"), "line 2: byte 0xfc at offset 27 is no UTF-8"),
    ("clean,corrupted\na,b", "no column 'target' among clean, corrupted (separated by ',')"),
    ("clean,corupted,target\na,b,c", "unknown column 'corupted' (meant: corrupted?); known: clean"),
    ("clean,corrupted,target,note\na,b,c,d", "line 1: unknown column 'note'; known"),
    ("clean,clean,corrupted,target\na,b,c,d", "the column 'clean' stands twice"),
    ("clean|corrupted|target\na|b|c", "no columns separated by , ; or tab in 'clean|corr"),
    ("clean,corrupted;target\na,b;c", "unknown column 'corrupted;target'"),
    ("sep=|\nclean|corrupted|target\na|b|c", "the separator '|' is not read"),
    (f'{HEADER}\na,b,c\n"a,b,c\nd,e,f\n', "line 3: a quotation mark opened here is never closed"),
]


@pytest.mark.parametrize("keep_going", [False, True])
@pytest.mark.parametrize(("content", "words"), WHOLE)
def test_what_spoils_a_whole_file_is_refused_even_when_going_on(file, content, words, keep_going):
    path = file(content)
    with pytest.raises(PromptError) as caught:
        read_pairs(path, keep_going)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert words in message
    assert "\n" not in message


def test_what_is_no_file_of_pairs(tmp_path, file):
    for path, words in (
        (tmp_path / "none.csv", "no file"),
        (tmp_path, "is a folder"),
        (file("{}", "pairs.json"), "pairs are read from .csv"),
    ):
        with pytest.raises(PromptError, match=words):
            read_pairs(path)


BAD_ROWS = [
    ("a,b", "2 fields where the header has 3"),
    ("a,b,c,d", "4 fields where the header has 3; put texts that hold the separator ','"),
    (",b,c", "clean is empty ('')"),
    ("a,  ,c", "corrupted is empty ('  ')"),
    ("a,b,", "target is empty"),
    ('a,"b"x,c', "no CSV"),
    ("a,b\ufffd,c", "corrupted holds the sign of a lost character"),
]
BAD_LINES = [
    ("[1]", "list where an object is needed"),
    ("{", "no JSON (Expecting property name enclosed in double quotes at character 2)"),
    ('{"clean": "a", "corrupted": "b"}', "no target"),
    ('{"clean": "a", "corrupted": 3, "target": "c"}', "corrupted is 3, no text"),
    ('{"clean": "a", "corrupted": "b", "target": true}', "target is true, no text and no token id"),
    ('{"clean": "a", "corrupted": "b", "target": []}', "target is an empty list"),
    ('{"clean": "a", "corrupted": "b", "target": 1e999}', "target is Infinity, no text"),
    (
        '{"clean": "a", "corrupted": "b", "targets": "c"}',
        "unknown column 'targets' (meant: target?)",
    ),
    (
        '{"clean": "a", "clean": "b", "corrupted": "b", "target": "c"}',
        "the key 'clean' stands twice",
    ),
    ('{"clean": "\\ud800", "corrupted": "b", "target": "c"}', "lone surrogate"),
    ("[" * 100_000, "no JSON"),
]
BAD = [("pairs.csv", f"{HEADER}\n", "x,y,z", bad, words) for bad, words in BAD_ROWS]
GOOD_LINE = '{"clean": "x", "corrupted": "y", "target": "z"}'
BAD += [("pairs.jsonl", "\n", GOOD_LINE, bad, words) for bad, words in BAD_LINES]


@pytest.mark.parametrize(("name", "before", "good", "bad", "words"), BAD)
def test_a_bad_row_is_named_and_the_others_kept_where_asked(file, name, before, good, bad, words):
    path = file(f"{before}{good}\n{bad}\n{good}\n", name)
    with pytest.raises(PromptError) as caught:
        read_pairs(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 3: ")
    assert words in message
    assert "\n" not in message
    assert "--keep-going" in message
    found = read_pairs(path, keep_going=True)
    assert [row.line for row in found.rows] == [2, 4]
    assert found.left_out[0].startswith(f"{path}, line 3: ")
    assert len(found.left_out) == 1


def test_nothing_is_left(file):
    with pytest.raises(PromptError, match=r"none of the 2 pairs can be used; first: .*line 2: "):
        read_pairs(file(f"{HEADER}\n,b,c\na,,c\n"), keep_going=True)


def test_a_name_stands_once(file):
    path = file(f"{HEADER},prompt_id\na,b,c,one\nd,e,f,one\n")
    with pytest.raises(PromptError, match="line 3: prompt_id 'one' stands in line 2 too"):
        read_pairs(path)


def test_pairs_that_a_model_cannot_take_are_named_by_line(file, tiny):
    model = tiny("tiny-gpt2")
    rows = [QUOTED, f'"{CLEAN}","{CORRUPTED} and", Mary', f'"{CLEAN}","{CORRUPTED}", Mary had']
    found = read_pairs(file("\n".join([HEADER, *rows])))
    with pytest.raises(PromptError, match=r"pairs\.csv, line 3: lengths differ after tokenisation"):
        fit_pairs(model, found)
    kept, left_out = fit_pairs(model, found, keep_going=True)
    assert [tokens.prompt_id for tokens in kept] == ["line 2"]
    assert [line.partition("line ")[2][:2] for line in left_out] == ["3:", "4:"]


def test_a_check_of_ones_own_may_refuse_a_pair(file, tiny):
    def no(tokens):
        raise ValueError(f"prompt {tokens.prompt_id!r}: not this one")

    found = read_pairs(file(f"{HEADER}\n{QUOTED}\n"))
    with pytest.raises(PromptError, match="line 2: not this one; correct it"):
        fit_pairs(tiny("tiny-gpt2"), found, check=no)


CELLS = st.text(st.sampled_from("ab ,;\t\"\n\r'|{}[]:\\\0é\ufeff\u2028"), max_size=8)
CONTENT = st.one_of(
    st.binary(max_size=60),
    st.lists(st.lists(CELLS, max_size=5), max_size=5).map(
        lambda rows: f"{HEADER}\n" + "\n".join(",".join(row) for row in rows)
    ),
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from([*HEADER.split(","), "foil", "x"]), inner)
            ),
            max_leaves=6,
        ),
        max_size=4,
    ).map(lambda rows: "\n".join(map(json.dumps, rows))),
)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONTENT, st.sampled_from(["pairs.csv", "pairs.tsv", "pairs.jsonl"]), st.booleans())
def test_any_file_is_read_or_refused_in_one_line(file, content, name, keep_going):
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    path = file(content, name)
    try:
        found = read_pairs(path, keep_going)
    except PromptError:
        with pytest.raises(PromptError, match=r"\A[^\n]+\Z"):
            read_pairs(path, keep_going)
        return
    assert found.rows
    for row in found.rows:
        assert row.pair.clean.strip()
        assert row.pair.corrupted.strip()
        assert row.pair.target != ""
    assert all("\n" not in line for line in found.left_out)
