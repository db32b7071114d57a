"""Modules that load when they are first used, for reading the rules needs none of them.

A table's module says what it reads and typesets it with pandas; Snakemake asks for the former
alone, at every start.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """Stands for a module in `sys.modules` until an attribute of it is asked for.

    Its specification is the module's own, by which others look whether there is one.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = PathFinder.find_spec(name)

    def __getattr__(self, attribute: str) -> Any:
        name = self.__name__
        if sys.modules.get(name) is self:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)


def defer(*names: str) -> None:
    """Let `import name` wait for the first use; one that is loaded already stays as it is."""
    for name in names:
        sys.modules.setdefault(name, Deferred(name))
