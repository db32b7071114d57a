"""Walk a GGUF file's raw header before any reader sees it: every length must fit the file.

The gguf package's reader takes lengths at their word: an array of 10^12 bytes in a file of 49
keeps it busy until memory ends. Here nothing is allocated that the file does not hold.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from hvp_patching.models.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4  # ggml's own limit
MAX_NESTING = 2
MAX_ALIGNMENT = 1 << 20
# What readers take time and memory for, one by one, far above what any vocabulary has.
MOST_NAMES, MOST_ELEMENTS = 1 << 16, 1 << 21  # keys and tensors each; of all arrays together
LONGEST = 1 << 13  # bytes of a token or a merge: building merges takes the square of it
SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
# The fewest bytes that one key, one tensor, one string and one array can take.
KEY, TENSOR, STRING, ARRAY = 8 + 4 + 1, 8 + 4 + 4 + 8, 8, 4 + 8
# Lengths that make the model's matrices: none can exceed what the tensors themselves have.
WIDTHS = (
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "expert_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
)
HEADS, KEY_LENGTH = "attention.head_count", "attention.key_length"
POSITIONS = "position_embd.weight"


class _Header:
    """The bytes of a file, read in order."""

    def __init__(self, path: Path, raw: bytes | mmap.mmap) -> None:
        self.path, self.raw, self.at, self.elements = path, raw, 0, 0

    def error(self, what: str) -> ModelError:
        what = what if len(what) <= 300 else f"{what[:300]}…"
        return ModelError(
            f"cannot read the GGUF file {self.path}: {what} (at byte {self.at} of "
            f"{len(self.raw)}); fetch the file again"
        )

    def left(self) -> int:
        return len(self.raw) - self.at

    def number(self, code: str, what: str) -> Any:
        size = struct.calcsize(f"<{code}")
        if size > self.left():
            raise self.error(f"the header ends within {what}")
        (value,) = struct.unpack_from(f"<{code}", self.raw, self.at)
        self.at += size
        return value

    def count(self, what: str, least: int) -> int:
        """A number of things of at least `least` bytes each, all of which the rest can hold."""
        found = int(self.number("Q", f"the number of {what}"))
        if found * least > self.left():
            raise self.error(f"{found} {what} cannot be in the {self.left()} bytes left")
        return found

    def names(self, what: str, least: int) -> int:
        found = self.count(what, least)
        if found > MOST_NAMES:
            raise self.error(f"{found} {what} are more than {MOST_NAMES}")
        return found

    def elements_of(self, key: str, least: int) -> int:
        """The length of an array, which adds to the length of all."""
        found = self.count(f"elements of {key!r}", least)
        self.elements += found
        if self.elements > MOST_ELEMENTS:
            raise self.error(f"with {key!r} the arrays have more than {MOST_ELEMENTS} elements")
        return found

    def name(self, what: str) -> str:
        length = self.count(f"bytes of {what}", 1)
        try:
            found = bytes(self.raw[self.at : self.at + length]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8") from error
        self.at += length
        return found


class Contents(NamedTuple):
    """What a header says: numbers of its keys (of an array the largest), shapes of its tensors."""

    numbers: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]


def check_header(path: Path) -> Contents:
    """What a GGUF file's header says; ModelError, at once, where it is malformed.

    Checked against the bytes left: counts, lengths of strings and arrays, types; then keys and
    tensors named twice, alignment, shapes, that every tensor lies within the file, and that no
    length of the model exceeds its tensors.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise ModelError(f"cannot read the GGUF file {path}: it is empty; fetch it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
                return check_bytes(raw, path)
    except OSError as error:
        raise ModelError(f"cannot read the GGUF file {path}: {error}") from error


def check_bytes(raw: bytes | mmap.mmap, path: Path) -> Contents:
    """check_header of a file's content; `path` is what errors name."""
    header = _Header(path, raw)
    if header.raw[:4] != MAGIC:
        raise header.error("it does not begin with GGUF")
    header.at += 4
    version = header.number("I", "the version")
    if version not in VERSIONS:
        raise header.error(f"version {version} is not one of {VERSIONS}, or big-endian")
    tensors, keys = header.names("tensors", TENSOR), header.names("keys", KEY)
    numbers = _keys(header, keys)
    shapes, places = _tensors(header, tensors)
    alignment = numbers.get("general.alignment", 32)
    power = isinstance(alignment, int) and alignment > 0 and not alignment & (alignment - 1)
    if not power or alignment > MAX_ALIGNMENT:
        raise header.error(f"general.alignment is {alignment}, no power of two below 2^20")
    _check_places(header, places, alignment)
    _check_lengths(header, numbers, shapes)
    return Contents(numbers, shapes)


def _check_places(header: _Header, places: dict[str, tuple[int, int]], alignment: int) -> None:
    """Every tensor in the file and on bytes of its own: shared ones would be loaded many times."""
    start, taken = -(-header.at // alignment) * alignment, 0
    for name, (offset, size) in sorted(places.items(), key=lambda item: item[1]):
        if start + offset + size > len(header.raw):
            raise header.error(
                f"the tensor {name!r} would end at byte {start + offset + size}, beyond the file"
            )
        if offset % alignment:
            raise header.error(f"the tensor {name!r} is not aligned to {alignment} bytes")
        if offset < taken:
            raise header.error(f"the tensor {name!r} lies on bytes of another one")
        taken = offset + size


def _keys(header: _Header, count: int) -> dict[str, Any]:
    """The keys whose value is a number or an array of numbers' largest; text is walked over."""
    found: dict[str, Any] = {"GGUF.version": None, "GGUF.tensor_count": None, "GGUF.kv_count": None}
    for _ in range(count):
        key = header.name("a key")
        if key in found:
            raise header.error(f"the key {key!r} stands twice")
        kind = _kind(header)
        if key == "general.alignment" and kind is not GGUFValueType.UINT32:
            raise header.error("general.alignment must be a uint32")
        found[key] = _value(header, kind, key, 0)
    return found


def _kind(header: _Header) -> GGUFValueType:
    number = header.number("I", "a type")
    try:
        return GGUFValueType(number)
    except ValueError as error:
        raise header.error(f"there is no value type {number}") from error


def _value(header: _Header, kind: GGUFValueType, key: str, depth: int) -> Any:
    if kind in SCALARS:
        return header.number(SCALARS[kind], f"the value of {key!r}")
    if kind is GGUFValueType.STRING:
        length = header.count(f"bytes of {key!r}", 1)
        header.at += length
        return None
    if depth >= MAX_NESTING:
        raise header.error(f"{key!r} is an array within arrays, {depth + 1} deep")
    inner = _kind(header)
    if inner in SCALARS:
        size = struct.calcsize(f"<{SCALARS[inner]}")
        length = header.elements_of(key, size)
        values = _largest(header, SCALARS[inner], length) if length else None
        header.at += length * size
        return values
    least = STRING if inner is GGUFValueType.STRING else ARRAY
    length = header.elements_of(key, least)
    if inner is GGUFValueType.STRING:
        _skip_strings(header, length, key)
    else:
        for _ in range(length):
            _value(header, inner, key, depth + 1)
    return None


def _skip_strings(header: _Header, count: int, key: str) -> None:
    # A vocabulary and its merges are 800,000 strings: no call for each.
    raw, end, at, read = header.raw, len(header.raw), header.at, struct.Struct("<Q").unpack_from
    for _ in range(count):
        if at + STRING > end:
            break
        length = read(raw, at)[0]
        at += STRING + length
        if at > end:
            break
        if length > LONGEST:
            raise header.error(f"a string of {key!r} has {length} bytes, more than {LONGEST}")
        header.at = at
    else:
        return
    raise header.error(f"a string of {key!r} ends beyond the file")


def _largest(header: _Header, code: str, length: int) -> Any:
    """The largest number of an array: lengths may be given layer by layer."""
    kind = np.dtype(code).newbyteorder("<")
    return np.frombuffer(header.raw, kind, length, header.at).max().item()


def _tensors(
    header: _Header, count: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, int]]]:
    """Shape, and (offset, bytes), of every tensor."""
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        name = header.name("a tensor's name")
        if name in shapes:
            raise header.error(f"the tensor {name!r} stands twice")
        dimensions = header.number("I", f"the tensor {name!r}")
        if dimensions > MAX_DIMENSIONS:
            raise header.error(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(header.number("Q", f"the tensor {name!r}") for _ in range(dimensions))
        shapes[name] = shape
        size = _bytes(header, name, shape, header.number("I", f"the tensor {name!r}"))
        places[name] = (header.number("Q", f"the tensor {name!r}"), size)
    return shapes, places


def _bytes(header: _Header, name: str, shape: tuple[int, ...], kind: int) -> int:
    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError) as error:
        raise header.error(f"the tensor {name!r} is of the unknown type {kind}") from error
    if 0 in shape:
        raise header.error(f"the tensor {name!r} has no elements (shape {shape})")
    elements = math.prod(shape)
    if (shape or (1,))[0] % block:
        raise header.error(f"the rows of the tensor {name!r} are not whole blocks of {block}")
    return elements // block * size


def _check_lengths(
    header: _Header, numbers: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    """No layers and no widths that the tensors do not have: a model of them would be built."""
    largest = max((length for shape in shapes.values() for length in shape), default=0)
    layers = {name.split(".")[1] for name in shapes if name.startswith("blk.") and "." in name[4:]}
    for key, value in numbers.items():
        architecture, _, rest = key.partition(".")
        if not isinstance(value, int | float) or not shapes:
            continue
        limit: float = math.inf
        if rest == "block_count":
            limit = len(layers)
        elif rest in WIDTHS:
            limit = largest
        elif rest == "context_length" and POSITIONS in shapes:
            limit = max(shapes[POSITIONS], default=0)
        if rest == KEY_LENGTH:
            value *= numbers.get(f"{architecture}.{HEADS}") or 1
        if limit < math.inf and not 0 <= value <= limit:
            raise header.error(f"{key} makes {value}, and the tensors have {limit} at most")
