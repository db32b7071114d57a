"""What the errors of other people's modules say: in one line, and whether memory ran out."""

from __future__ import annotations

import reprlib
import sys
import unicodedata
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


def yaml_fault(error: BaseException) -> str:
    """What is wrong with a YAML text, and in which line where its loader says so."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    said = str(problem or one_line(error))
    return f"line {mark.line + 1}: {said}" if mark else said


def architecture(model: Any) -> str:
    """Class name of the module under a TransformerBridge, which is what its config names."""
    return type(getattr(model, "original_model", model)).__name__


class _Short(reprlib.Repr):
    """Repr of a bounded size, whatever a file may hold: lists within lists, texts of a megabyte."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 4, 200, 200, 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 20

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 4096 else "a number of many digits"


def shown(value: object) -> str:
    """A value of a user's file as messages show it: its repr in one line, cut where it is long."""
    return " ".join(_Short().repr(value).split("\n"))


def no_text(text: str) -> str:
    """What of a text cannot be meant, in words: a control character, a lone surrogate; "" if none.

    Line breaks and tabs may be meant.
    """
    for place, character in enumerate(text):
        kind = unicodedata.category(character)
        if kind == "Cs" or (kind == "Cc" and character not in "\n\t"):
            what = "lone surrogate" if kind == "Cs" else "control character"
            return f"the {what} {character!a} at character {place}"
    return ""
