"""Clocks, peak memory, matmul rate and operation counts for the benchmarks."""

from __future__ import annotations

import ctypes
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Wall seconds of one call and the memory it took beyond what was there before, in MiB."""

    seconds: float
    peak_mib: float
    result: Any


def measure(function: Callable[[], Any], device: torch.device) -> Cost:
    """Call once, after which the device is idle again."""
    before = _reset_peak(device)
    start = time.perf_counter()
    result = function()
    _synchronize(device)
    seconds = time.perf_counter() - start
    return Cost(seconds, max(0.0, (_peak(device) - before) / 2**20), result)


def count_flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in one call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def matmul_rate(device: torch.device, size: int = 2048, repeats: int = 10) -> float:
    """Best float32 matmul rate of a few tries, in FLOP/s."""
    a = torch.randn(size, size, device=device)
    b = torch.randn(size, size, device=device)
    best = float("inf")
    for _ in range(repeats):
        _synchronize(device)
        start = time.perf_counter()
        a @ b
        _synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def device_name(device: torch.device) -> str:
    """The accelerator's name, or the processor's model and the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} threads"


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reset_peak(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.memory_allocated(device))
    clear = Path("/proc/self/clear_refs")
    if clear.exists():  # Linux: give freed memory back, then forget the peak resident size
        with suppress(OSError, AttributeError):  # no glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        clear.write_text("5")
    return _status("VmRSS") or _peak(device)


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return _status("VmHWM") or 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(field: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return 1024.0 * float(line.split()[1])
