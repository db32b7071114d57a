"""Costs: what each operation runs, and how its time is turned into the table's numbers."""

from __future__ import annotations

import statistics
from types import SimpleNamespace

import pytest
import torch

from hvp_patching.estimators import by_name
from hvp_patching.measuring import costs
from hvp_patching.measuring.costs import operation_seconds, spread
from hvp_patching.metrics.frontier import Seconds
from hvp_patching.paths.taylor.tensor import UnsupportedOperation

N_POS, CHANGED, N_HEADS = 14, 4, 12
SUFFIX = N_POS - CHANGED


@pytest.fixture
def model(tiny):
    return tiny("tiny-gpt2")


@pytest.fixture
def token_clock(model, monkeypatch):
    """A clock that ticks once per token fed to the model, in place of seconds."""
    fed = SimpleNamespace(tokens=0)

    def count(module, args, kwargs):
        fed.tokens += (args[0] if args else kwargs["input_ids"]).numel()

    handle = model.original_model.register_forward_pre_hook(count, with_kwargs=True)
    monkeypatch.setattr(costs, "time", SimpleNamespace(perf_counter=lambda: fed.tokens))
    yield fed
    handle.remove()


def test_every_operation_runs_what_it_says(model, make_pair, token_clock):
    table = operation_seconds(model, make_pair((CHANGED,), N_POS), repeats=2, baselines=["gim"])
    fed = table.set_index(["operation", "rows"])["seconds"]
    # both prompts, the tokens before the first changed one, and the proof of their cache
    base = 2 * N_POS + CHANGED + SUFFIX
    expected = {
        ("forward", 1): N_POS,
        ("forward", N_HEADS): N_HEADS * N_POS,
        ("base_run", 1): base,
        ("reverse_pass", N_HEADS): base + SUFFIX,
        ("gim", N_HEADS): base + SUFFIX,
    }
    # components join a pass at their own layer, whatever their number
    for n in (1, 10, N_HEADS):
        for name in ("patching", "order_1", "order_2", *(f"order_{k}_at_zero" for k in (1, 2, 3))):
            expected[name, n] = SUFFIX
        expected["order_2_at_zero", n] += SUFFIX  # tangents, and the reverse pass they share
    assert fed.to_dict() == expected
    per_component = table["seconds"] / table["rows"]
    assert table["seconds_per_component"].to_list() == per_component.to_list()
    assert table["forward_equivalents"].to_list() == (per_component / N_POS).to_list()
    assert set(table["threads"]) == {torch.get_num_threads()}
    assert set(table["device"]) == {"cpu"}


def test_little_memory_means_more_passes_and_smaller_batches(model, make_pair, token_clock):
    table = operation_seconds(model, make_pair((CHANGED,), N_POS), repeats=1, memory=1, counts=())
    fed = table.set_index(["operation", "rows"])["seconds"]
    assert fed["order_2", N_HEADS] == N_HEADS * SUFFIX
    assert table.loc[table["operation"] == "forward", "rows"].to_list() == [1]


def test_seconds_are_medians_after_a_warm_up(monkeypatch):
    calls, times = [], iter([0, 5, 10, 11, 20, 22])
    monkeypatch.setattr(costs, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    seconds = costs._median_seconds(lambda: calls.append(1), 3, torch.device("cpu"))
    assert seconds == statistics.median([5, 1, 2])
    assert len(calls) == 3


@pytest.mark.parametrize("backend", ["auto", "taylor", "autograd"])
def test_every_estimator_finds_its_operations(model, make_pair, backend):
    table = operation_seconds(model, make_pair(), repeats=1, backend=backend, counts=())
    assert (table["seconds"] > 0).all()
    seconds = Seconds(table)
    assert seconds.n_components == N_HEADS
    names = ("hvp", "ms_hvp_3", "ig_4", "gl_2", "lobatto_3", "ih_pi_2", "ih_dr_2", "third_order")
    for name in (*names, "fd_hvp", "k_median"):
        assert seconds.of(by_name(name).name, N_HEADS) > 0


def test_auto_falls_back_as_the_engine_does(model, make_pair, monkeypatch):
    def refuse(*arguments):
        raise UnsupportedOperation("no rule for this operation")

    monkeypatch.setattr(costs, "taylor_jets", refuse)
    used = []
    monkeypatch.setattr(
        costs, "autograd_jets", lambda run, components, *rest: used.append(len(components))
    )
    operation_seconds(model, make_pair(), repeats=1, counts=(2,))
    assert set(used) == {2, N_HEADS}


def test_spread_takes_every_depth_alike():
    components = [(layer, index) for layer in range(6) for index in range(3)]
    assert spread(components, 18) == components
    assert spread(components, 1) == [(3, 0)]
    assert [layer for layer, _ in spread(components, 6)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "0 repeats cannot be timed"),
        ({"baselines": ["gin"]}, "unknown baseline 'gin'; known: gim"),
        ({"backend": "jax"}, "unknown backend 'jax'"),
        ({"site": "heads"}, "unknown site 'heads'"),
    ],
)
def test_refusals(model, make_pair, options, message):
    with pytest.raises(ValueError, match=message):
        operation_seconds(model, make_pair(), **options)
