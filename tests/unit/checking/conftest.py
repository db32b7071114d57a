"""What is checked: a tiny model in float32, the same in float64, a pair of prompts."""

from __future__ import annotations

import pytest

from hvp_patching.checking import Exact, Subject


@pytest.fixture
def subject(tiny, make_pair):
    """Make a subject: family, site and whatever else differs from the usual."""

    def make(family="tiny-gpt2", site="attn_heads", dtype="float32", pair=None, **options):
        model = tiny(family, dtype)
        exact = Exact(model, lambda dtype: tiny(family, dtype))
        return Subject(model, exact, pair or make_pair(), site, **options)

    return make
