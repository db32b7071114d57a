"""Every malformed GGUF header ends in one line at once; what passes, gguf's reader reads."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp_patching.models import ModelError
from hvp_patching.models.convert import convert_gguf
from hvp_patching.models.gguf_guard import check_header
from hvp_patching.models.registry import get_spec

U32, U64, STRING, ARRAY = 4, 10, 8, 9
SECONDS = 0.5  # for a header of some hundred bytes, on a busy machine
MUTANTS = 3000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind of value, and tensors of three types."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("small")
    writer.add_custom_alignment(32)
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length([64])
    writer.add_head_count(4)
    writer.add_key_length(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(["<s>", "é", ""])
    writer.add_token_scores([0.5, -1.0, 2.0])
    writer.add_token_types([3, 1, 1])
    writer.add_bool("small.yes", True)
    writer.add_uint64("small.long", 2**60)
    writer.add_int8("small.short", -3)
    writer.add_float64("small.double", 0.25)
    writer.add_tensor("token_embd.weight", np.ones((3, 32), np.float32))
    writer.add_tensor("blk.0.ffn_up.weight", np.ones((64, 32), np.float16))
    q8 = gguf.GGMLQuantizationType.Q8_0
    rows = gguf.quants.quantize(np.ones((32, 32), np.float32), q8)
    writer.add_tensor("blk.0.attn_q.weight", rows, raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def header(*keys: bytes, tensors: tuple[bytes, ...] = (), version: int = 3) -> bytes:
    counts = struct.pack("<IQQ", version, len(tensors), len(keys))
    return b"GGUF" + counts + b"".join(keys) + b"".join(tensors)


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, length: int, values: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, length) + values


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def refused(path: Path, raw: bytes) -> str:
    path.write_bytes(raw)
    start = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(ModelError) as caught:
        check_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < SECONDS
    assert peak < 1 << 20
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_good_file_passes(small: Path, tiny_gguf: Path) -> None:
    check_header(small)
    check_header(tiny_gguf)


def test_the_file_of_49_bytes_with_an_array_of_a_million_millions(tmp_path: Path) -> None:
    raw = bytes.fromhex(
        "47475546 03000000 0000000000000000 0100000000000000 0100000000000000 61"
        "09000000 00000000 0010a5d4e8000000"
    )
    assert len(raw) == 49
    message = refused(tmp_path / "x.gguf", raw)
    assert "1000000000000 elements of 'a' cannot be in the 0 bytes left (at byte 49 of" in message
    with pytest.raises(ModelError, match="1000000000000 elements of 'a'"):
        convert_gguf(tmp_path / "x.gguf", tmp_path / "model", get_spec("tiny-llama"))
    assert not (tmp_path / "model").exists()


GOOD = key("a", U32, struct.pack("<I", 1))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "it is empty"),
        (b"GG", "does not begin with GGUF"),
        (b"GGUF\3\0", "ends within the version"),
        (b"nonsense" * 9, "does not begin with GGUF"),
        (header(version=1), "version 1 is not one of"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "or big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "9223372036854775808 tensors cannot be in"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "1099511627776 keys cannot be in"),
        (header(struct.pack("<Q", 2**64 - 1) + b"a" * 40), "bytes of a key cannot be in"),
        (header(key("a", 13, b"\0" * 8)), "there is no value type 13"),
        (header(key("a", ARRAY, array(13, 1, b"\0" * 8))), "there is no value type 13"),
        (header(key("a", STRING, struct.pack("<Q", 2**40))), "bytes of 'a' cannot be in"),
        (header(key("a", ARRAY, array(7, 10**8))), "100000000 elements of 'a' cannot be in"),
        (header(key("a", ARRAY, array(12, 3, b"\0" * 23))), "3 elements of 'a' cannot be in"),
        (header(key("a", ARRAY, array(STRING, 2**61, b"\0" * 64))), "elements of 'a' cannot be"),
        (
            header(key("a", ARRAY, array(STRING, 2, text("b") + struct.pack("<Q", 99)))),
            "a string of 'a' ends beyond the file",
        ),
        (
            header(key("a", ARRAY, array(ARRAY, 1, array(ARRAY, 1, array(ARRAY, 1) * 9)))),
            "'a' is an array within arrays, 3 deep",
        ),
        (header(key("a", ARRAY, array(ARRAY, 1) * 5000)), "is an array within arrays"),
        (header(struct.pack("<Q", 1) + b"\xff" + b"\0" * 12), "a key is not UTF-8"),
        (header(GOOD, GOOD), "the key 'a' stands twice"),
        (header(key("GGUF.version", U32, b"\0" * 4)), "the key 'GGUF.version' stands twice"),
        (header(key("general.alignment", U32, struct.pack("<I", 0))), "no power of two"),
        (header(key("general.alignment", U32, struct.pack("<I", 48))), "no power of two"),
        (header(key("general.alignment", U32, struct.pack("<I", 2**31))), "no power of two"),
        (header(key("general.alignment", U64, struct.pack("<Q", 32))), "must be a uint32"),
        (header(tensors=(tensor("t", (4,)),) * 2), "the tensor 't' stands twice"),
        (header(tensors=(tensor("t", (1,) * 5),)), "the tensor 't' has 5 dimensions"),
        (header(tensors=(tensor("t", (4,), kind=99),)), "of the unknown type 99"),
        (header(tensors=(tensor("t", (2**63, 0)),)), "the tensor 't' has no elements"),
        (header(tensors=(tensor("t", (33,), kind=8),)), "are not whole blocks of 32"),
        (header(tensors=(tensor("t", (2**40, 2**40)),)), "the tensor 't' would end at byte"),
        (header(tensors=(tensor("t", (1,), offset=2**64 - 1),)), "the tensor 't' would end at"),
        (
            header(
                key("llama.block_count", U32, struct.pack("<I", 10**9)),
                tensors=(tensor("blk.0.x", (1,)),),
            )
            + b"\0" * 64,
            "llama.block_count makes 1000000000, and the tensors have 1 at most",
        ),
        (
            header(
                key(
                    "llama.feed_forward_length", ARRAY, array(U32, 2, struct.pack("<II", 1, 10**9))
                ),
                tensors=(tensor("blk.0.x", (8,)),),
            )
            + b"\0" * 64,
            "llama.feed_forward_length makes 1000000000, and the tensors have 8 at most",
        ),
        (
            header(
                key("gpt2.context_length", U32, struct.pack("<I", 10**9)),
                tensors=(tensor("position_embd.weight", (2, 4)),),
            )
            + b"\0" * 64,
            "gpt2.context_length makes 1000000000, and the tensors have 4 at most",
        ),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, raw: bytes, words: str) -> None:
    assert words in refused(tmp_path / "x.gguf", raw)


def test_every_cut_of_a_good_file_is_refused(small: Path, tmp_path: Path) -> None:
    raw = small.read_bytes()
    for length in range(0, len(raw) - 32, 7):
        refused(tmp_path / "cut.gguf", raw[:length])


def _verdict(path: Path, raw: bytes) -> bool:
    """Whether the guard lets the bytes through, which it must say fast; then gguf reads them."""
    path.write_bytes(raw)
    start = time.perf_counter()
    try:
        check_header(path)
    except ModelError:
        passed = False
    else:
        passed = True
    assert time.perf_counter() - start < SECONDS
    if passed:
        reader = gguf.GGUFReader(str(path))
        assert time.perf_counter() - start < 4 * SECONDS
        assert all(item.data.nbytes == item.n_bytes for item in reader.tensors)
    return passed


def test_mutated_headers_are_refused_or_read(small: Path, tmp_path: Path) -> None:
    raw, draw = small.read_bytes(), random.Random(10)
    start = raw.index(b"blk.0.attn_q.weight") + 60  # the end of the header
    extremes = [0, 1, 2, 255, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]
    passed = 0
    for _ in range(MUTANTS):
        mutant = bytearray(raw)
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            at = draw.randrange(start)
            match draw.randrange(4):
                case 0:
                    mutant[at] = draw.randrange(256)
                case 1:
                    mutant[at : at + 8] = struct.pack("<Q", draw.choice(extremes))
                case 2:
                    del mutant[at : at + draw.randrange(1, 9)]
                case 3:
                    mutant[at:at] = draw.randbytes(draw.randrange(1, 9))
        passed += _verdict(tmp_path / "mutant.gguf", bytes(mutant))
    assert 0 < passed < MUTANTS  # both happen


_NAMES = st.sampled_from(["a", "b", "general.alignment", "llama.block_count"])
_LENGTHS = st.one_of(st.integers(0, 6), st.sampled_from([2**16, 10**9, 2**40, 2**64 - 1]))
_BODIES = st.binary(max_size=48)
_VALUES = st.one_of(
    st.tuples(st.integers(0, 13), _BODIES),
    st.tuples(
        st.just(ARRAY),
        st.builds(array, st.integers(0, 13), _LENGTHS, _BODIES),
    ),
    st.tuples(
        st.just(STRING), st.builds(lambda n, raw: struct.pack("<Q", n) + raw, _LENGTHS, _BODIES)
    ),
)
_TENSORS = st.builds(
    tensor,
    st.sampled_from(["t", "blk.0.w"]),
    st.lists(_LENGTHS, max_size=5).map(tuple),
    st.integers(0, 40),
    _LENGTHS,
)


@given(
    keys=st.lists(st.builds(lambda n, v: key(n, v[0], v[1]), _NAMES, _VALUES), max_size=4),
    tensors=st.lists(_TENSORS, max_size=3),
    rest=st.binary(max_size=256),
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_made_headers_are_refused_or_read(
    keys: list[bytes], tensors: list[bytes], rest: bytes, tmp_path: Path
) -> None:
    _verdict(tmp_path / "made.gguf", header(*keys, tensors=tuple(tensors)) + rest)


def test_a_vocabulary_is_walked_in_no_time(tmp_path: Path) -> None:
    count = 500_000
    raw = header(key("a", ARRAY, array(STRING, count, struct.pack("<Q", 0) * count)))
    path = tmp_path / "x.gguf"
    path.write_bytes(raw)
    start = time.perf_counter()
    check_header(path)
    assert time.perf_counter() - start < 5


def _many(count: int, seed: int) -> dict[str, float]:
    """What gguf_mutants.py finds, in a process of its own with a limit on memory and time."""
    if not Path("/proc/self/statm").is_file():
        pytest.skip("needs a system that says how much memory a process has (Linux)")
    script = Path(__file__).with_name("gguf_mutants.py")
    command = [sys.executable, str(script), str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + count / 100)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "count", [10_000, pytest.param(100_000, marks=pytest.mark.fuzz)], ids=["some", "many"]
)
def test_malformed_headers_end_in_one_line_within_memory_and_time(count: int) -> None:
    found = _many(count, seed=count)
    assert found["refused"] == count
    assert found["read"] > 0  # so not everything is refused
    assert found["slowest_ms"] < 1000
    assert found["grown_mib"] < 64


def test_what_would_take_readers_long_is_refused(tmp_path: Path) -> None:
    many = 1 << 17
    keys = header(*(key(str(i), 7, b"\0") for i in range(many)))
    assert f"{many} keys are more than 65536" in refused(tmp_path / "x.gguf", keys)
    flags = header(
        key("a", ARRAY, array(0, 1 << 21)) + bytes(1 << 21), key("b", ARRAY, array(0, 1))
    )
    words = "with 'b' the arrays have more than 2097152 elements"
    assert words in refused(tmp_path / "x.gguf", flags + b"\0")
    token = header(key("a", ARRAY, array(STRING, 1, text("x" * 8193))))
    assert "a string of 'a' has 8193 bytes" in refused(tmp_path / "x.gguf", token)


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ((0, 0), "'t1' lies on bytes of another one"),
        ((0, 32), "'t1' lies on bytes of another one"),
        ((64, 40), "'t1' is not aligned to 32 bytes"),
        ((0, 96), "'t1' would end at byte"),
    ],
)
def test_tensors_lie_in_the_file_on_bytes_of_their_own(
    offsets: tuple[int, int], words: str, tmp_path: Path
) -> None:
    tensors = tuple(tensor(f"t{i}", (16,), offset=offset) for i, offset in enumerate(offsets))
    start = -(-len(header(tensors=tensors)) // 32) * 32
    raw = header(tensors=tensors).ljust(start, b"\0") + bytes(128)
    assert words in refused(tmp_path / "x.gguf", raw)


def test_a_long_list_of_lengths_is_held_to_the_tensors(tmp_path: Path) -> None:
    lengths = struct.pack("<5000I", *[1] * 4999, 10**9)
    raw = header(
        key("llama.feed_forward_length", ARRAY, array(U32, 5000, lengths)),
        tensors=(tensor("blk.0.x", (8,)),),
    )
    words = "llama.feed_forward_length makes 1000000000, and the tensors have 8 at most"
    assert words in refused(tmp_path / "x.gguf", raw + bytes(64))


def test_a_long_name_is_cut_in_the_message(tmp_path: Path) -> None:
    raw = header(key("k" * 100_000, 13, b""))
    assert len(refused(tmp_path / "x.gguf", raw)) < 700


def test_a_header_that_says_too_little_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its sizes a library takes those of its defaults: 7B weights, drawn at random."""
    from hvp_patching.models import convert

    def build(*_: object, **__: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(convert.AutoModelForCausalLM, "from_pretrained", build)
    path = tmp_path / "x.gguf"
    sizes = {
        **{"block_count": 1, "embedding_length": 8, "attention.head_count": 2},
        **{"feed_forward_length": 8},
    }
    architecture = key("general.architecture", STRING, text("llama"))
    for missing in (*sizes, ""):
        keys = [
            key(f"llama.{name}", U32, struct.pack("<I", value))
            for name, value in sizes.items()
            if name != missing
        ]
        raw = header(architecture, *keys, tensors=(tensor("blk.0.x", (8, 8)),))
        path.write_bytes(raw + bytes(512))
        with pytest.raises(ModelError) as caught:
            convert_gguf(path, tmp_path / "model", get_spec("tiny-llama"))
        said = {
            "block_count": "says the number of layers of none",
            "": "tiny-llama has 3 layers of width 32, 4 heads, MLP 64, and the model in ",
        }
        assert said.get(missing, f"does not say llama.{missing}") in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "model").exists()


def test_two_architectures_in_one_header_are_refused(tmp_path: Path) -> None:
    keys = [key(f"{name}.block_count", U32, struct.pack("<I", 0)) for name in ("llama", "qwen2")]
    path = tmp_path / "x.gguf"
    path.write_bytes(header(*keys))
    with pytest.raises(ModelError, match="the number of layers of llama, qwen2; give a GGUF file"):
        convert_gguf(path, tmp_path / "model", get_spec("tiny-llama"))
