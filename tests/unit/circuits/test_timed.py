"""Seconds of methods: the scores are those of edge_scores, and the clock runs for one alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import hvp_patching as hp
from hvp_patching.circuits import timed
from hvp_patching.circuits.timed import timed_scores

SOME = (("input", "m0"), ("a0.h1", "a1.h2<q>"), ("m1", "logits"), ("m0", "a2.h0<v>"))


@pytest.fixture
def token_clock(tiny, monkeypatch):
    """A clock that ticks once per token fed to the model, in place of seconds."""
    fed = SimpleNamespace(tokens=0)

    def count(module, args, kwargs):
        fed.tokens += (args[0] if args else kwargs["input_ids"]).numel()

    model = tiny("tiny-gpt2")
    handle = model.original_model.register_forward_pre_hook(count, with_kwargs=True)
    monkeypatch.setattr(timed, "time", SimpleNamespace(perf_counter=lambda: fed.tokens))
    yield fed
    handle.remove()


def test_scores_are_those_of_edge_scores(tiny, edge_pair):
    model = tiny("tiny-qwen2")
    names = ("eap", "hvp_joint", "hvp_own", "hvp_reader", "exact", "selective_0.4")
    asked = {name: (name, SOME if name != "eap" else None) for name in names}
    found = timed_scores(model, edge_pair, asked | {"again": ("exact", SOME[:1])})
    for name in names:
        own = hp.edge_scores(model, edge_pair, name, edges=asked[name][1])
        assert torch.allclose(found.methods[name].scores, own.by_pair[0], atol=1e-12)
        assert float(own.by_pair.abs().max()) > 1e-3
        assert found.methods[name].seconds > 0
    assert len(found.methods["again"].scores) == 1
    assert found.captures > 0


def test_the_clock_runs_for_one_method_at_a_time(tiny, edge_pair, token_clock):
    """In tokens fed: suffixes of n − first_changed, once a row; both prompts for the captures."""
    model, n, suffix = tiny("tiny-gpt2"), 9, 9 - 4
    asked = {
        "eap": ("eap", None),
        "joint": ("hvp_joint", None),
        "ig": ("eap_ig_inputs_5", None),
        "exact": ("exact", SOME),
    }
    first, second = (timed_scores(model, edge_pair, asked) for _ in range(2))
    for found in (first, second):  # what a model does once is on no clock
        seconds = {name: timing.seconds for name, timing in found.methods.items()}
        assert seconds["eap"] == seconds["joint"] == suffix
        assert seconds["ig"] == 5 * suffix
        assert suffix < seconds["exact"]
        assert found.captures >= 2 * n
    assert first.captures == second.captures


def test_methods_that_choose_their_edges_are_refused(tiny, edge_pair):
    with pytest.raises(ValueError, match="chooses its edges by all pairs") as caught:
        timed_scores(tiny("tiny-gpt2"), edge_pair, {"x": ("selective_own_3", None)})
    assert "\n" not in str(caught.value)


def test_progress_reaches_the_end(tiny, edge_pair):
    done: list[float] = []
    asked = {"eap": ("eap", None), "exact": ("exact", SOME)}
    timed_scores(tiny("tiny-gpt2"), edge_pair, asked, progress=done.append)
    assert sum(done) == pytest.approx(1)
