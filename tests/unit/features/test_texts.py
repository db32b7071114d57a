"""Sampled texts: the model's own distribution, the same for a seed, resumed after a kill."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from hvp_patching.features.texts import first_token, sample_texts
from hvp_patching.models.errors import ModelError
from hvp_patching.paths.precision import keep_precision
from hvp_patching.store import Store


class Killed(Exception):
    """Stands for a process that ends."""


@pytest.fixture
def model(tiny):
    return tiny("tiny-gpt2", "float32")


@pytest.fixture
def sample(model, tmp_path):
    def run(folder, n=100, seed=0, **options):
        options = {"rows": 8, "length": 6} | options
        return sample_texts(model, Store(tmp_path / folder), n, seed, **options)

    return run


def test_texts_begin_with_the_first_token_and_are_as_many_as_asked(model, sample):
    ids = sample("a", n=100)
    assert ids.shape == (24, 6)  # three batches of 8 texts: 40 tokens each beside the first
    assert ids.dtype == torch.int64
    assert set(ids[:, 0].tolist()) == {first_token(model)}


def test_a_seed_gives_its_texts_and_another_seed_others(sample):
    first, again, other = sample("a"), sample("b"), sample("c", seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(text) for text in first.tolist()}) == len(first)  # batches differ too


def test_a_killed_run_goes_on_with_the_batches_that_are_there(sample):
    whole = sample("whole")
    heard = []

    def kill(tokens):
        heard.append(tokens)
        if len(heard) == 2:
            raise Killed

    with pytest.raises(Killed):
        sample("killed", advance=kill)
    assert torch.equal(sample("killed"), whole)
    assert len(heard) == 2


def test_tokens_are_drawn_at_temperature_one(model, sample):
    """Second tokens against the softmax of a plain run, by chi-squared over bins of tokens."""
    drawn = sample("many", n=4000, rows=2000, length=3)[:, 1].numpy()
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        logits = model(torch.tensor([[first_token(model)]]), return_type="logits")
    odds = logits[0, -1].double().softmax(-1).numpy()
    order = np.argsort(-odds)
    bins = np.empty(len(odds), dtype=int)
    bins[order] = np.minimum((np.cumsum(odds[order]) * 20).astype(int), 19)
    expected = np.bincount(bins, weights=odds, minlength=20) * len(drawn)
    observed = np.bincount(bins[drawn], minlength=20)
    there = expected > 0
    test = stats.chisquare(observed[there], expected[there] * observed.sum() / expected.sum())
    assert test.pvalue > 1e-3
    sharper = np.bincount(bins, weights=odds**2, minlength=20) / (odds**2).sum() * len(drawn)
    colder = stats.chisquare(observed[there], sharper[there] * observed.sum() / sharper.sum())
    assert colder.pvalue < 1e-6  # half the temperature is told apart


def test_a_model_without_a_tokenizer_is_refused(tiny, monkeypatch):
    model = tiny("tiny-gpt2", "float32")
    monkeypatch.setattr(model, "tokenizer", None)
    with pytest.raises(ModelError, match="no tokenizer"):
        first_token(model)
