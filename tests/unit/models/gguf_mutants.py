"""Malformed GGUF headers by the thousand, in a process of little memory: what comes of each.

    python tests/unit/models/gguf_mutants.py 100000 0

prints what was found as JSON. A mutant is refused by ModelError in one line, or gguf's own reader
reads it; anything else ends the run with the mutant's bytes.
"""

from __future__ import annotations

import json
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from gguf import GGUFReader

from hvp_patching.models.errors import ModelError
from hvp_patching.models.gguf_guard import check_bytes

MIB = 1 << 20
MEMORY_MIB = 256  # beyond what the process has once everything is imported
CPU_SECONDS = 1.0  # for one header
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
EXTREMES = (
    *(0, 1, 2, 3, 7, 12, 13, 31, 33, 255, 256, 4096, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**32, 2**40, 10**12, 2**61, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1),
)


class Header:
    """A well-formed header, and where its counts, lengths, types, shapes and offsets stand."""

    def __init__(self) -> None:
        self.raw = bytearray(b"GGUF")
        self.slots: list[tuple[int, str]] = []
        self.number("I", 3)
        self.number("Q", 3)
        self.number("Q", 13)
        self.keys()
        for name, shape, kind, offset in (
            ("token_embd.weight", (32, 3), 0, 0),
            ("blk.0.ffn_up.weight", (32, 64), 1, 384),
            ("blk.0.attn_q.weight", (32, 32), 8, 4480),
        ):
            self.text(name)
            self.number("I", len(shape))
            for length in shape:
                self.number("Q", length)
            self.number("I", kind)
            self.number("Q", offset)
        self.end = len(self.raw)
        self.raw += bytes(-self.end % 32 + 4480 + 32 * 34)

    def number(self, code: str, value: float) -> None:
        self.slots.append((len(self.raw), code))
        self.raw += struct.pack(f"<{code}", value)

    def text(self, value: str) -> None:
        self.number("Q", len(value.encode()))
        self.raw += value.encode()

    def key(self, name: str, kind: int) -> None:
        self.text(name)
        self.number("I", kind)

    def keys(self) -> None:
        for name, value in {
            "block_count": 1,
            "embedding_length": 32,
            "feed_forward_length": 64,
        }.items():
            self.key(f"llama.{name}", 4)
            self.number("I", value)
        self.key("llama.attention.head_count", 10)
        self.number("Q", 4)
        self.key("general.alignment", 4)
        self.number("I", 32)
        self.key("general.architecture", STRING)
        self.text("llama")
        self.key("a.double", 12)
        self.raw += struct.pack("<d", 0.5)
        self.key("a.switch", 7)
        self.raw += b"\1"
        for kind in (0, 5, 6):
            self.key(f"a.array.{kind}", ARRAY)
            self.number("I", kind)
            self.number("Q", 3)
            self.raw += struct.pack(f"<3{SCALARS[kind]}", 1, 2, 3)
        self.key("tokenizer.ggml.tokens", ARRAY)
        self.number("I", STRING)
        self.number("Q", 3)
        for token in ("<s>", "é", ""):
            self.text(token)
        self.key("a.nested", ARRAY)
        self.number("I", ARRAY)
        self.number("Q", 2)
        for _ in range(2):
            self.number("I", 4)
            self.number("Q", 1)
            self.number("I", 7)


def mutant(header: Header, draw: random.Random) -> bytes:
    """The header with one to three faults: of its numbers above all, of bytes and of length."""
    raw = bytearray(header.raw)
    for _ in range(draw.choice((1, 1, 2, 3))):
        end, way = min(header.end, len(raw)), draw.randrange(10)
        if not end:
            break
        if way < 6:
            place, code = draw.choice(header.slots)
            size = struct.calcsize(code)
            value = draw.choice(EXTREMES) if draw.random() < 0.7 else draw.getrandbits(8 * size)
            raw[place : place + size] = value.to_bytes(8, "little")[:size]
        elif way == 6:
            raw[draw.randrange(end)] = draw.randrange(256)
        elif way == 7:
            at = draw.randrange(end)
            del raw[at : at + draw.randrange(1, 9)]
        elif way == 8:
            at = draw.randrange(end)
            raw[at:at] = draw.randbytes(draw.randrange(1, 9))
        else:
            del raw[draw.randrange(len(raw)) :]
    return bytes(raw)


def verdict(raw: bytes, scratch: Path) -> str:
    """'read', or the words of the refusal without its numbers and names."""
    try:
        check_bytes(raw, scratch)
    except ModelError as error:
        message = str(error)
        assert message.startswith(f"cannot read the GGUF file {scratch}: "), message
        assert "\n" not in message, message
        assert len(message) < 700, message
        return "refused"
    scratch.write_bytes(raw)
    reader = GGUFReader(str(scratch))
    assert all(item.data.nbytes == item.n_bytes for item in reader.tensors)
    return "read"


def run(wanted: int, seed: int, scratch: Path) -> dict[str, float]:
    """Mutants until `wanted` of them are refused."""
    header, draw = Header(), random.Random(seed)
    assert verdict(bytes(header.raw), scratch) == "read"
    found: Counter[str] = Counter()
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while found["refused"] < wanted:
        raw = mutant(header, draw)
        start = time.process_time()
        try:
            found[verdict(raw, scratch)] += 1
        except BaseException:
            print(raw.hex(), file=sys.stderr)
            raise
        took = time.process_time() - start
        if took > CPU_SECONDS:
            raise TimeoutError(f"{took:.1f} s for {raw.hex()}")
        slowest = max(slowest, took)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {**found, "slowest_ms": round(1e3 * slowest, 2), "grown_mib": round(grown / 1024, 1)}


def limit_memory() -> None:
    """No more address space than now and MEMORY_MIB: a larger allocation fails."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_MIB * MIB
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), Path(folder) / "mutant.gguf")))
