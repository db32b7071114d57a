"""Nothing around a call changes its numbers: other threads, autocast, modes, global defaults.

Every public computation runs inside `isolated()`. Hooks live on the model and some baselines
replace functions of torch for a while, so one computation runs at a time in a process; work for
several devices goes into several processes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.backends import cuda, mkldnn

_ONE_AT_A_TIME = threading.RLock()
AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu")
FULL_PRECISION = ("none", "ieee")  # of float32 matrix products; TF32 and bfloat16 have other names


@contextmanager
def isolated() -> Iterator[None]:
    """Hold the process's lock, outside inference mode and autocast, with PyTorch's own defaults.

    Gradients are on, float32 matrix products keep float32, the default dtype is float32 and the
    default device the CPU. Everything is restored on exit. Usable as a decorator, `@isolated()`.
    """
    with _ONE_AT_A_TIME, ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        if torch.get_default_dtype() != torch.float32:
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        for products in (cuda.matmul, mkldnn.matmul):  # type: ignore[attr-defined]
            if products.fp32_precision not in FULL_PRECISION:
                stack.callback(setattr, products, "fp32_precision", products.fp32_precision)
                products.fp32_precision = "ieee"
        yield
