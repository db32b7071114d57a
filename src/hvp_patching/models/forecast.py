"""Memory planned before a model is loaded: what it needs by its header, and what there is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hvp_patching.models.errors import ModelError
from hvp_patching.models.header import Header

BYTES = {"float32": 4, "float64": 8}
READ_IN = 4  # bytes: every checkpoint is read as float32 on the CPU first
# Beside the weights: the libraries' own code, buffers, and one layer's activations of a base run.
OVERHEAD = 600 * 2**20
LEAST_FOR_A_PASS, MOST_FOR_A_PASS = 128 * 2**20, 2 * 2**30  # bytes for the rows of one pass
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Forecast:
    """Bytes: for the weights with all that goes with them, for a pass, and what is free.

    device: "cpu" or "cuda"; have is None where the system does not say what is free.
    """

    device: str
    parameters: int
    weights: int
    a_pass: int
    have: int | None

    def text(self) -> str:
        """The forecast in one line."""
        free = "unknown" if self.have is None else gigabytes(self.have)
        return (
            f"{millions(self.parameters)} parameters; memory on {self.device}: needs about "
            f"{gigabytes(self.weights)} and up to {gigabytes(self.a_pass)} for a pass, "
            f"has {free} free"
        )


def forecast(
    name: str, header: Header, dtype: str, device: str = "cpu", have: int | None = None
) -> Forecast:
    """What loading `name` and running it will take; ModelError with need and have if too much.

    `have`: free bytes of the device, measured here for the CPU. A pass gets up to 2 GiB of what is
    left, and at least 128 MiB.
    """
    have = free_memory() if have is None and device == "cpu" else have
    weights = needed(header, dtype) + OVERHEAD
    least = weights + LEAST_FOR_A_PASS
    if have is not None and have < least:
        raise ModelError(
            f"{name}: {millions(header.parameters)} parameters in {dtype} need about "
            f"{gigabytes(least)} on {device}, which has {gigabytes(have)} free; free some memory, "
            "or use a smaller model" + " or float32" * (dtype == "float64")
        )
    left = MOST_FOR_A_PASS if have is None else have - weights
    return Forecast(device, header.parameters, weights, min(MOST_FOR_A_PASS, left), have)


def needed(header: Header, dtype: str) -> int:
    """Bytes of the weights in `dtype`, with the copies of split projections.

    The largest tensor counts once more as it was read: weights change their dtype one by one.
    """
    if dtype not in BYTES:
        raise ModelError(f"unknown dtype {dtype!r}; known dtypes: {', '.join(BYTES)}")
    converting = 0 if BYTES[dtype] == READ_IN else header.largest * READ_IN
    return (header.parameters + header.fused) * BYTES[dtype] + converting


def free_memory() -> int | None:
    """Bytes that this process may still take on the CPU; None where the system does not say."""
    found = [free for free in (_system(), _cgroup()) if free is not None]
    return min(found, default=None)


def _system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # not Linux: all there is, used or not
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _cgroup(folder: Path = CGROUP) -> int | None:
    """What a container's limit leaves (version 2, or 1); file pages can be given back."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most = int((folder / limit).read_text())
            now = int((folder / used).read_text())
            stat = (folder / limit).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):  # "max", or none
            continue
        counts = dict(zip(stat[::2], stat[1::2], strict=False))
        return max(0, most - now + int(counts.get("inactive_file", 0)))
    return None


def gigabytes(size: float) -> str:
    """Bytes as '0.54 GB'."""
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"


def millions(count: int) -> str:
    """A number of parameters as '134.5M' or '2.61B'."""
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"
