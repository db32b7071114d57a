"""Shared by all tests: no network, one thread, and the tiny models loaded once."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import of huggingface_hub

import pytest
import torch
from hypothesis import settings

from hvp_patching.prompts.pair import TokenPair

torch.set_num_threads(1)  # tiny tensors are far slower on many threads, above all beside other work
settings.register_profile("shared-machine", deadline=None, derandomize=True)
settings.load_profile("shared-machine")


@pytest.fixture(autouse=True)
def one_thread():
    """Whatever a test set, the next one runs on one thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Any]:
    """A tiny model by name and dtype; every test gets the same one and leaves it as it is."""
    from hvp_patching.models import load_model

    @functools.cache
    def load(name: str, dtype: str = "float64") -> Any:
        return load_model(name, dtype=dtype, device="cpu")

    return load


@pytest.fixture(scope="session")
def make_pair() -> Callable[..., TokenPair]:
    """Random token ids that every tiny vocabulary has, changed at the given positions."""

    def make(
        changed: Sequence[int] = (4,), n: int = 14, targets: Sequence[int] = (17,), seed: int = 0
    ) -> TokenPair:
        draw = random.Random(seed)
        clean = [draw.randrange(300, 2000) for _ in range(n)]
        corrupted = list(clean)
        for position in changed:
            corrupted[position] = draw.randrange(2000, 3000)
        return TokenPair(tuple(clean), tuple(corrupted), tuple(targets), f"seed-{seed}")

    return make
