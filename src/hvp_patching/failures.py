"""What the errors of other people's modules say: in one line, and whether memory ran out."""

from __future__ import annotations

import sys
from typing import Any


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: no other backend and no smaller claim would mend that."""
    torch = sys.modules.get("torch")  # its errors are met only where it is loaded
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def architecture(model: Any) -> str:
    """Class name of the module under a TransformerBridge, which is what its config names."""
    return type(getattr(model, "original_model", model)).__name__
