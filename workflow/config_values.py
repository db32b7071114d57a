"""Values of the configuration that mean what they look like, whichever way they are given.

`--config` and YAML read one and the same text in different ways (1e3 is a float or a text, 010 is
ten or eight) and keep the last of two equal keys without a word.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hvp_patching.failures import no_text, shown
from hvp_patching.files import DEEPEST, too_deep

WHOLE = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# YAML 1.1 would read them to the base of 8 or 60.
OTHER_BASE = re.compile(r"[+-]?(0[0-7_]+|[0-9][0-9_]*(:[0-9_.]+)+)")
# what YAML reads as booleans
SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it is there
EXACT = 2**53  # beyond it a float need not be the whole number that was written
DIGITS = 300  # of a number: more are no float, and Python reads 4,300 at most
MOST_VALUES = 200_000  # of a file, its aliases written out


def read_values(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """The value with numbers and switches for the texts of them, as its place in the schema asks.

    Whole numbers written as 1e3 or 1000.0 become integers. What cannot be read stays as it is.
    """
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, MutableMapping):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for key in value:
            place = known.get(key, others if isinstance(others, Mapping) else {})
            value[key] = read_values(value[key], place, root)
        return value
    if isinstance(value, list):
        return [read_values(item, schema.get("items", {}), root) for item in value]
    kind = schema.get("type")
    if kind == "boolean" and isinstance(value, str):
        return SWITCHES.get(value.strip().lower(), value)
    free = not schema  # options of tasks, which check them
    return (
        _number(value, whole=kind == "integer") if free or kind in {"integer", "number"} else value
    )


def _number(value: Any, whole: bool) -> Any:
    if isinstance(value, str):
        text = value.strip()
        if len(text) > DIGITS:
            return value
        if WHOLE.fullmatch(text):
            return int(text)
        if NUMBER.fullmatch(text):
            value = float(text)
    if whole and isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    return value


def odd_values(value: Any, key: str = "", depth: int = 0) -> Iterator[str]:
    """What no configuration means, with its key: other kinds of values, keys that are no text.

    Control characters would also pass the schema's patterns, at the end of a name.
    """
    if depth > DEEPEST:
        yield f"{key} nests more than {DEEPEST} lists and mappings; flatten it"
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                where = key or "the configuration"
                yield f"{where} has the key {shown(name)}, which is no text; put it in quotes"
                continue
            fault = _no_name(name) if name.strip() else "nothing in it"
            if fault:
                where = key or "the configuration"
                yield f"{where} has the key {shown(name)}, with {fault}; remove it"
            yield from odd_values(item, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from odd_values(item, key, depth + 1)
    elif isinstance(value, str):
        fault = _no_name(value)
        if fault:
            yield f"{key} has {shown(value)}, with {fault}; remove it"
    elif isinstance(value, int):
        if abs(value) >= 10**DIGITS:
            yield f"{key} is a number of more than {DIGITS} digits; give a smaller one"
    elif value is not None and not isinstance(value, float):
        kind = type(value).__name__
        yield f"{key} is {shown(value)}, a {kind} to YAML; put it in quotes, or give a plain value"


def _no_name(text: str) -> str:
    """Line breaks and tabs are no part of a name or a path either."""
    return no_text(text.replace("\n", "\0").replace("\t", "\0"))


def not_finite(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Places and values of NaN and infinities: no limit of a schema holds them back."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from not_finite(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for item in value:
            yield from not_finite(item, key)
    elif isinstance(value, float) and not math.isfinite(value):
        yield key, value


def check_text(text: str, where: str, loader: Any = Loader) -> None:
    """Raise ValueError where a YAML or JSON text has a key twice or a number to another base.

    Likewise where it nests too deep to be read, or its aliases stand for too many values.
    """
    try:
        line = too_deep(text, loader)
        root = None if line else yaml.compose(text, Loader=loader)
    except yaml.YAMLError:
        return  # Snakemake says so
    if line:
        raise ValueError(
            f"{where} nests more than {DEEPEST} lists and mappings in line {line}; flatten it"
        )
    if root is not None:
        _count(root, where, {}, 0)
    seen: set[int] = set()
    for node in _nodes(root, seen):
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
        elif _too_long(node):
            line = node.start_mark.line + 1
            raise ValueError(f"{where} has a number of {len(node.value)} digits in line {line}")
        elif _in_other_base(node):
            line = node.start_mark.line + 1
            raise ValueError(
                f"{where} has the number {node.value} in line {line}, which YAML reads to the base "
                "of 8 or 60; write it in decimal digits"
            )


def _count(node: yaml.Node, where: str, counted: dict[int, int], depth: int) -> int:
    """The values of a node, those of aliases each time they stand."""
    if depth > 2 * DEEPEST:
        line = node.start_mark.line + 1
        raise ValueError(f"{where} has an alias within itself in line {line}; write it out")
    if id(node) not in counted:
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
        found = 1 + sum(_count(part, where, counted, depth + 1) for part in parts)
        if found > MOST_VALUES:
            raise ValueError(
                f"{where} stands for more than {MOST_VALUES} values; use fewer aliases"
            )
        counted[id(node)] = found
    return counted[id(node)]


def _too_long(node: yaml.Node) -> bool:
    whole = isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int")
    return whole and len(node.value) > DIGITS


def _in_other_base(node: yaml.Node) -> bool:
    number = isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float"))
    return number and bool(OTHER_BASE.fullmatch(node.value)) and node.value.strip("+-0_") != ""


def _nodes(node: yaml.Node | None, seen: set[int]) -> Iterator[yaml.Node]:
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    yield node
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for child in pair:
                yield from _nodes(child, seen)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _nodes(child, seen)


def _check_keys(mapping: yaml.MappingNode, where: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in lines:
                first = lines[key.value]
                places = f"lines {first} and {line}" if first != line else f"line {line}"
                raise ValueError(f"{where} has the key '{key.value}' twice ({places}); remove one")
            lines[key.value] = line


def check_files(paths: Iterable[Path]) -> None:
    """`check_text` of the configuration files that are there."""
    for path in paths:
        if path.is_file():
            check_text(path.read_text(encoding="utf-8"), str(path))


def check_arguments(entries: Sequence[str], command: Sequence[str] | None = None) -> None:
    """Raise ValueError where `--config` has a key twice, or is itself given twice."""
    command = sys.argv if command is None else command
    options = [word for word in command if word in {"--config", "-C"} or word[:9] == "--config="]
    if len(options) > 1:
        raise ValueError(
            "--config is given more than once and only the last would count; give all values "
            "after one: --config KEY=VALUE KEY=VALUE"
        )
    keys = [entry.partition("=")[0] for entry in entries]
    for entry, key in zip(entries, keys, strict=True):
        if keys.count(key) > 1:
            raise ValueError(f"--config has the key '{key}' twice; remove one")
        # as Snakemake reads it: libyaml takes less
        check_text(entry.partition("=")[2], f"--config {key}", yaml.SafeLoader)
