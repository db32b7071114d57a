"""Any change to a configuration leaves a valid one, or is refused in one line that names it."""

from __future__ import annotations

import copy
import datetime
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

import config_check  # noqa: E402
import config_values  # noqa: E402

SOME, MANY = 200, 2000  # cases; the many on demand: pytest -m fuzz


@cache
def profile(name: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for file in dict.fromkeys(("config", name)):
        text = (ROOT / "config" / f"{file}.yaml").read_text(encoding="utf-8")
        update_config(config, yaml.safe_load(text))
    return json.loads(json.dumps(config))  # no two keys share one list, as aliases do


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value of a configuration, lists' entries too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inner:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


PLACES = {name: sorted(places(profile(name)), key=str) for name in ("config", "smoke", "paper")}
WORDS = [
    *("ioi", "tiny-gpt2", "tiny-gpt2/ioi", "gemma-2-9b/factual", "smollm2-135m", "greater_than"),
    *("ap", "hvp", "ms_hvp_0", "ms_hvp_5", "ms_hvp_99999999", "ig_inputs_5", "ig_inputs_0", "gim"),
    *("gl_0", "gl_201", "gl_9999999999999", "lobatto_1", "ih_full_100000", "ms_hvp_٣"),
    *("random_token", "zero", "attn_heads", "blocks.5.hook_resid_pre", "blocks.5.hook_resid_pre\n"),
    *("tiny-gpt2\n",),
    *("off", "true", "1e3", "010", "-1", "1e999", "nan", "9" * 400, "cuda:0", "cuda:0\n", "main"),
    *("~nobody-of-that-name/x", "/tmp", "a\0b", "x" * 400, "../../etc", "$(id)", "`id`", "; id #"),
    *("{model}", "{{", "%s", "\ud800", "é", "", " ", "../..", "a/b/c", "refs/../../x"),
]
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.sampled_from(WORDS), st.text(max_size=12)),
    *(st.integers(-3, 120), st.sampled_from([2**32, 2**63, 10**400, -(10**30)])),
    *(st.floats(), st.dates(), st.binary(max_size=3)),
)
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=6), st.integers(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        *(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
        *(st.sets(st.integers(), max_size=2), st.tuples(inner)),
    ),
    max_leaves=5,
)
CHANGES = st.tuples(
    st.integers(0, 10**6), st.sampled_from(["replace", "add", "delete", "again"]), KEYS, VALUES
)


def changed(config: Any, path: tuple[Any, ...], how: str, key: Any, value: Any) -> list[Any]:
    """Change the configuration at a place; what a message about it could name."""
    for part in path[:-1]:
        config = config[part]
    last = path[-1]
    if how == "delete":
        del config[last]
    elif how == "again" and isinstance(config, list):
        config.append(config[last])
    elif how == "add" and isinstance(config, dict):
        config[key] = value
        return [*path[:-1], key]
    else:
        config[last] = value
    return list(path)


def is_valid_or_named(name: str, changes: list[tuple[int, str, Any, Any]]) -> None:
    config, named = copy.deepcopy(profile(name)), []
    for number, how, key, value in changes:
        path = PLACES[name][number % len(PLACES[name])]
        if reach(config, path):
            named += changed(config, path, how, key, value)
    try:
        config_check.check_config(config)
    except WorkflowError as error:
        message = str(error)
        assert message.startswith("config: ")
        assert "\n" not in message
        assert len(message) < 2500
        words = [config_check.shown(part).strip("'\"")[:100] for part in named]
        assert " key" in message or any(word in message for word in words if word)


CONFIGURATIONS = given(st.sampled_from(sorted(PLACES)), st.lists(CHANGES, min_size=1, max_size=3))


@example("config", [(0, "add", 1, "x")])
@example("config", [(0, "add", "", None)])
@example("config", [(0, "add", "table19", ["tiny-gpt2/ioi"]), (0, "add", "zzz", 1)])
@CONFIGURATIONS
@settings(max_examples=SOME)
def test_a_changed_configuration_is_valid_or_named(name, changes):
    is_valid_or_named(name, changes)


@pytest.mark.fuzz
@CONFIGURATIONS
@settings(max_examples=MANY)
def test_many_changed_configurations_are_valid_or_named(name, changes):
    is_valid_or_named(name, changes)


def reach(config: Any, path: tuple[Any, ...]) -> bool:
    """Whether the place is still there after earlier changes."""
    for part in path:
        if not isinstance(config, dict | list):
            return False
        if isinstance(part, int) != isinstance(config, list):
            return False
        if part not in (range(len(config)) if isinstance(config, list) else config):
            return False
        config = config[part]
    return True


PIECES = [
    *("a: ", "b: ", "- ", "[", "]", "{", "}", "&x ", "*x", "<<: *x", "\n", "  ", "!!int ", "0x"),
    *("010", "1:30", "2001-99-99", "? ", "| ", "> ", "'", '"', "#", ",", "\t", "~"),
]
TEXTS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=25).map("".join))


def fault(text: str, loader: Any) -> str:
    try:
        config_values.check_text(text, "the file x", loader)
    except ValueError as error:
        return str(error)
    return ""


def is_passed_or_placed(text: str) -> None:
    for loader in {config_values.Loader, yaml.SafeLoader}:
        found = fault(text, loader)
        assert found == "" or found.startswith("the file x ")
        assert "\n" not in found


@given(TEXTS)
@settings(max_examples=SOME)
def test_a_text_is_passed_or_refused_with_its_place(text):
    is_passed_or_placed(text)


@pytest.mark.fuzz
@given(TEXTS)
@settings(max_examples=MANY)
def test_many_texts_are_passed_or_refused_with_their_place(text):
    is_passed_or_placed(text)


DEEP = 100_000
BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * DEEP, "nests more than 40 lists and mappings in line 1"),
        ("{a: " * DEEP, "nests more than 40 lists and mappings in line 1"),
        ("- " * DEEP, "nests more than 40 lists and mappings in line 1"),
        ("a: &x [*x]\n", "has an alias within itself in line 1"),
        ("a: &x {b: *x}\n", "has an alias within itself in line 1"),
        (BOMB, "stands for more than 200000 values; use fewer aliases"),
        (f"a: {'9' * 5000}\n", "has a number of 5000 digits in line 1"),
    ],
)
def test_a_text_that_no_reader_survives_is_refused(text, words):
    for loader in {config_values.Loader, yaml.SafeLoader}:
        assert fault(text, loader).startswith("the file x ")
        assert words in fault(text, loader)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({1: 2}, "the configuration has the key 1, which is no text; put it in quotes"),
        ({"seed": datetime.date(2001, 1, 1)}, "seed is datetime.date(2001, 1, 1), a date to "),
        ({"prompts": {"quick": {None: 3}}}, "prompts.quick has the key None, which is no text; "),
        (
            {"autoencoders": {"tiny-gpt2": ["blocks.1.hook_resid_pre\n"]}},
            "autoencoders.tiny-gpt2 has 'blocks.1.hook_resid_pre\\n', with the control character ",
        ),
        ({"model_folders": {"gpt2-small": "a\0b"}}, "model_folders.gpt2-small has 'a\\x00b', "),
        (
            {"model_folders": {"gpt2-small": "~nobody-of-that-name/x"}},
            "model_folders.gpt2-small is '~nobody-of-that-name/x', which is no path here (",
        ),
        (
            {"autoencoder_folders": {"gpt2-small": "x" * 5000}},
            "autoencoder_folders.gpt2-small is 'xxxxx",
        ),
        (
            {"model_revisions": {"gpt2-small": "../../x"}},
            "model_revisions.gpt2-small is '../../x'; it must be a commit, a tag or a branch",
        ),
        ({"seed": "9" * 5000}, "seed is '99999"),
        ({"seed": 10**5000}, "seed is a number of more than 300 digits; give a smaller one"),
        ({"estimators": ["ap", "ms_hvp_0"]}, "estimators has 'ms_hvp_0': MS_HVP needs K ≥ 1"),
        ({"estimators": ["gl_1000"]}, "estimators has 'gl_1000': GL needs n ≤ 200, got 1000"),
        ({"sweep_estimators": ["ig_9999999999"]}, "sweep_estimators has 'ig_9999999999': "),
        ({"table19": ["tiny-gpt2/ioi"], "zzz": 1}, "unknown key 'zzz'"),
    ],
)
def test_what_was_found_is_refused_in_one_line(change, line):
    config = copy.deepcopy(profile("config"))
    update_config(config, copy.deepcopy(change)) if 1 not in change else config.update(change)
    with pytest.raises(WorkflowError) as caught:
        config_check.check_config(config)
    assert str(caught.value).startswith(f"config: {line}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_list_within_itself_is_refused():
    config = copy.deepcopy(profile("config"))
    config["models"].append(config["models"])
    with pytest.raises(WorkflowError, match=r"^config: models nests more than 40 lists"):
        config_check.check_config(config)
