"""Modules that load when they are first used, for reading the rules needs none of them.

A table's module says what it reads and typesets it with pandas; Snakemake asks for the former
alone, at every start.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """Stands for a module in `sys.modules` until an attribute of it is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        name = self.__name__
        if sys.modules.get(name) is self:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)


def defer(*names: str) -> None:
    """Let `import name` wait for the first use; one that is loaded already stays as it is."""
    for name in names:
        sys.modules.setdefault(name, Deferred(name))
