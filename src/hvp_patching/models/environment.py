"""The environment that a loaded model computes in now; tables read recorded ones without torch."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hvp_patching.environments import Environment


def current_environment(model: Any) -> Environment:
    """The environment of numbers that ``model``, a TransformerBridge, computes now."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    return Environment(
        torch=torch.__version__,
        transformers=_version("transformers"),
        transformer_lens=_version("transformer_lens"),
        device=_device_name(model),
        matmul=torch.get_float32_matmul_precision(),
        attention=str(getattr(config, "_attn_implementation", None) or "unknown"),
        dtype=str(model.cfg.dtype).removeprefix("torch."),
    )


def _device_name(model: Any) -> str:
    """Kind and name, such as 'cuda (NVIDIA H100 80GB HBM3)'."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({_processor()})" if device.type == "cpu" else device.type


@cache
def _processor() -> str:
    """The processor's name; Python's own answer is empty on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
