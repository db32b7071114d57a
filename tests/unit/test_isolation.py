"""Nothing around a call changes its numbers: the same bits under every surrounding."""

import threading
from contextlib import ExitStack, contextmanager

import pytest
import torch

import hvp_patching as hp
from hvp_patching.isolation import isolated

CALLS = {
    "path_jets": lambda model, pair: hp.path_jets(model, pair, nodes=(0.0, 0.5)).values,
    "autograd": lambda model, pair: hp.path_jets(model, pair, backend="autograd").values,
    "tangent": lambda model, pair: hp.path_jets(model, pair, backend="tangent").values,
    "activation_patching": hp.activation_patching,
    "site_attribution": hp.site_attribution,
    "hessian_vector_products": lambda model, pair: (
        hp.hessian_vector_products(model, pair, components=[(1, 2)]).products
    ),
    "gim": hp.gim,
    "gim_0_1_4": hp.gim_0_1_4,
    "relp": hp.relp,
    "ig_inputs": hp.ig_inputs,
    "clean_corrupted": hp.clean_corrupted,
    "second_order_share": hp.second_order_share,
    "atp_star": hp.atp_star,
    "atp_star_qkv": hp.atp_star_qkv,
    "gauss_newton": hp.gauss_newton,
    "local_curvature": hp.local_curvature,
    "screen_flag_fix": lambda model, pair: torch.from_numpy(
        hp.screen_flag_fix(model, pair, tau=0.1)["fixed"].to_numpy().copy()
    ),
}


@contextmanager
def replaced(get, set_, value):
    before = get()
    set_(value)
    try:
        yield
    finally:
        assert get() == value  # what the user set stands again after every call
        set_(before)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "default dtype": lambda: replaced(
        torch.get_default_dtype, torch.set_default_dtype, torch.float64
    ),
    "default device": lambda: torch.device("meta"),
    "products in bfloat16": lambda: replaced(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
}


@pytest.fixture(scope="module")
def expected(tiny, make_pair):
    model, pair = tiny("tiny-llama", "float32"), make_pair()
    return {name: call(model, pair) for name, call in CALLS.items()}


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_each_surrounding_changes_no_number(surrounding, expected, tiny, make_pair):
    model, pair = tiny("tiny-llama", "float32"), make_pair()
    with SURROUNDINGS[surrounding]():
        found = CALLS["site_attribution"](model, pair)
    assert torch.equal(found, expected["site_attribution"])


@pytest.mark.parametrize("name", CALLS)
def test_all_surroundings_together_change_no_number(name, expected, tiny, make_pair):
    model, pair = tiny("tiny-llama", "float32"), make_pair()
    with ExitStack() as stack:
        for surrounding in SURROUNDINGS.values():
            stack.enter_context(surrounding())
        found = CALLS[name](model, pair)
    assert bool((expected[name] != 0).any())
    assert torch.equal(found, expected[name])


def test_threads_take_turns(expected, tiny, make_pair):
    model, pair = tiny("tiny-llama", "float32"), make_pair()
    names = ["activation_patching", "gim", "site_attribution", "path_jets"]
    found, start = {}, threading.Barrier(len(names))

    def work(name):
        start.wait()
        found[name] = [CALLS[name](model, pair) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        assert all(torch.equal(value, expected[name]) for value in found[name]), name


@isolated()
def fail():
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
    raise KeyError


def test_an_exception_restores_everything():
    before = (torch.is_grad_enabled(), torch.get_default_dtype())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(KeyError):
            fail()
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert before == (torch.is_grad_enabled(), torch.get_default_dtype())
