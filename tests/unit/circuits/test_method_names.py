"""Methods by name: families, numbers, what their price is counted by."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hvp_patching.circuits.method_names import FAMILIES, STEPS, replaces, split_name, unit_of
from hvp_patching.circuits.methods import FIXES, SCORES, method_by_name


def test_every_family_has_a_score_and_the_replacing_ones_a_correction():
    assert set(SCORES) == set(FAMILIES)
    for family, kind in FAMILIES.items():
        name = f"{family}_3" if kind == STEPS else family
        method = method_by_name(name)
        assert (method.fix is not None) == (family in FIXES) == bool(replaces(name))
        assert method.replaced == (3 if family in FIXES else 0)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("eap", ("eap", "")),
        ("eap_ig_inputs_12", ("eap_ig_inputs", "12")),
        ("selective", ("selective", "")),
        ("selective_0.25", ("selective", "0.25")),
        ("selective_own_7", ("selective_own", "7")),
        ("hvp_joint_flagged_2", ("hvp_joint_flagged", "2")),
    ],
)
def test_a_name_is_a_family_and_a_number(name, split):
    assert split_name(name) == split


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("eap_5", "unknown method 'eap_5'; known: eap, eap_ig_inputs_N"),
        ("hvp_own_flagged", "unknown method"),
        ("ms_hvp_own", "unknown method 'ms_hvp_own'"),
        (None, "unknown method None"),
        ("ig_own_0", "needs at least 1 step"),
        ("selective_exact_0", "needs at least 1 edge to replace"),
    ],
)
def test_what_is_no_method_is_refused_in_one_line(name, said):
    with pytest.raises(ValueError, match=said) as caught:
        split_name(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("eap", "prompt"),
        ("ms_hvp_joint_5", "prompt"),
        ("hvp_input_flagged", "prompt"),
        ("selective_own_100", "prompt"),
        ("hvp_reader", "reader"),
        ("exact", "edge"),
        ("selective_0.3", "edge"),
        ("selective_joint", "flagged"),
    ],
)
def test_prices_are_counted_by(name, unit):
    assert unit_of(name) == unit


def test_names_need_no_torch():
    """A configuration is checked before anything is computed."""
    code = "import sys, hvp_patching.circuits.method_names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
