"""Training: it learns, and a killed run goes on to the same bits."""

from __future__ import annotations

import itertools

import pytest
import torch

from hvp_patching.features.training import Plan, TrainingKey, train_autoencoder
from hvp_patching.models.environment import current_environment
from hvp_patching.models.errors import ModelError
from hvp_patching.store import Store

HOOK = "blocks.1.hook_resid_pre"
PLAN = Plan(n_features=24, k=3, steps=40, batch=64)


class Killed(Exception):
    """Stands for a process that ends."""


@pytest.fixture
def train(tiny, tmp_path):
    model = tiny("tiny-gpt2")
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(24, 8, generator=draw)
    codes = torch.rand(512, 24, generator=draw) * (torch.rand(512, 24, generator=draw) > 0.9)
    x = codes @ rows

    def run(folder, plan=PLAN, advance=lambda steps: None, given=x, **more):
        sizes = (plan.n_features, plan.k, plan.steps, plan.batch)
        key = TrainingKey("weights", "float32", 0, "texts", HOOK, *sizes)
        store, environment = Store(tmp_path / folder), current_environment(model)
        return train_autoencoder(given, HOOK, plan, store, key, environment, advance, **more)

    run.x = x
    return run


def test_a_killed_run_goes_on_to_the_same_bits(train):
    whole = train("whole")
    done = itertools.count()

    def kill(steps):
        if next(done) == 20:
            raise Killed

    clock = itertools.count(step=1000.0)  # every step is saved
    with pytest.raises(Killed):
        train("killed", advance=kill, clock=lambda: next(clock))
    heard = []
    resumed = train("killed", advance=heard.append)
    assert 0 < heard[0] < PLAN.steps
    assert sum(heard) == PLAN.steps
    for name, value in whole.named_buffers():
        assert torch.equal(value, resumed.get_buffer(name)), name
    assert whole.identity == resumed.identity


def test_it_learns(train):
    def error(autoencoder):
        return float((train.x - autoencoder.reconstruct(train.x)).square().sum())

    few = train("few", Plan(24, 3, 1, 64))
    many = train("many", Plan(24, 3, 400, 64))
    assert error(many) < 0.8 * error(few)
    assert many.W_dec.norm(dim=1).tolist() == pytest.approx([1.0] * 24, rel=1e-5)
    assert float((many.encode(train.x) != 0).sum(1).max()) <= 3


def test_plans_and_activations_that_do_not_do(train):
    with pytest.raises(ModelError, match=r"^k = 25 of 24 features"):
        train("bad", Plan(24, 25, 4, 64))
    with pytest.raises(ModelError, match=r"^4 steps of 1000 tokens with 512 tokens there"):
        train("bad", Plan(24, 3, 4, 1000))
    with pytest.raises(ModelError, match="not finite"):
        train("bad", given=torch.full((512, 8), float("nan")))
