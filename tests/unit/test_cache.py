"""Keys, and what is computed and what is served through the store."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from hvp_patching import cache
from hvp_patching.cache import JetKey, Store, stored_baseline, stored_jets
from hvp_patching.paths import Jets, path_jets
from hvp_patching.paths.jets import normalise_request
from hvp_patching.prompts.pair import TokenPair

KEY = JetKey(
    weights="w" * 64,
    clean_ids=(1, 2, 3),
    corrupted_ids=(1, 4, 3),
    target_ids=(5,),
    corruption="name_swap",
    site="attn_heads",
    components=None,
    node=0.5,
    order=2,
    dtype="torch.float32",
    direction="noising",
    metric="logprob",
    foil_ids=(),
    backend="auto",
)
OTHER = {
    "weights": "v" * 64,
    "clean_ids": (1, 2, 4),
    "corrupted_ids": (1, 5, 3),
    "target_ids": (5, 6),
    "corruption": "abc",
    "site": "mlp_out",
    "components": ((0, 1),),
    "node": 0.25,
    "order": 1,
    "dtype": "torch.float64",
    "direction": "denoising",
    "metric": "logit_difference",
    "foil_ids": (7,),
    "positions": "each",
    "backend": "taylor",
    "engine": KEY.engine + 1,
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def files(store):
    return [path for path in store.root.rglob("*") if path.is_file()]


# --- keys -----------------------------------------------------------------------------------


def test_every_field_of_the_key_matters():
    assert set(OTHER) == {field.name for field in fields(JetKey)}
    digests = {KEY.digest()} | {replace(KEY, **{n: v}).digest() for n, v in OTHER.items()}
    assert len(digests) == 1 + len(OTHER)


def test_digests_are_stable():
    assert KEY.digest() == replace(KEY).digest()
    assert replace(KEY, node=1 / 3).digest() == replace(KEY, node=0.1 / 0.3).digest()
    assert len(KEY.digest()) == 64


# --- jets through the store -----------------------------------------------------------------

MODEL = SimpleNamespace(
    hvp_identity="identity",
    cfg=SimpleNamespace(dtype=torch.float32, d_vocab=100),
    parameters=lambda: iter([torch.zeros(1)]),
)
PAIR = TokenPair((1, 2, 3), (1, 4, 3), (5,), "p", "name_swap")


def value(node, order, component):
    return 100 * node + 10 * order + component


@pytest.fixture
def asked(monkeypatch):
    """What was computed: one request per call, of a stand-in for path_jets."""
    requests = []

    def compute(model, tokens, site, nodes, order=2, *rest, **options):
        request = normalise_request(nodes, order)
        requests.append(request)
        values = torch.full((3, len(request), max(request.values()) + 1), torch.nan)
        for i, (node, highest) in enumerate(request.items()):
            for k in range(highest + 1):
                values[:, i, k] = torch.tensor([value(node, k, c) for c in range(3)])
        frame = pd.DataFrame({"layer": [0, 0, 1], "index": [0, 1, 0]})
        return Jets(values.double(), tuple(request), frame)

    monkeypatch.setattr(cache, "path_jets", compute)
    return requests


def check(jets, request):
    assert jets.nodes == tuple(request)
    assert jets.values.shape == (3, len(request), max(request.values()) + 1)
    for i, (node, order) in enumerate(request.items()):
        for k in range(order + 1):
            expected = [value(node, k, c) for c in range(3)]
            assert jets.values[:, i, k].tolist() == pytest.approx(expected)
        assert bool(jets.values[:, i, order + 1 :].isnan().all())
    assert jets.components.to_dict("list") == {"layer": [0, 0, 1], "index": [0, 1, 0]}


def test_only_what_is_missing_is_computed(store, asked):
    first = {0.0: 2, 0.5: 1}
    jets, computed = stored_jets(store, MODEL, PAIR, "attn_heads", first)
    check(jets, first)
    assert computed == 2
    jets, computed = stored_jets(store, MODEL, PAIR, "attn_heads", first)
    check(jets, first)
    assert computed == 0
    more = {1.0: 0, 0.5: 1, 0.0: 3, 0.25: 2}
    jets, computed = stored_jets(store, MODEL, PAIR, "attn_heads", more)
    check(jets, more)
    assert computed == 3
    assert asked == [first, {1.0: 0, 0.0: 3, 0.25: 2}]


def test_a_higher_order_serves_a_lower_one(store, asked):
    stored_jets(store, MODEL, PAIR, "attn_heads", {0.0: 3})
    jets, computed = stored_jets(store, MODEL, PAIR, "attn_heads", {0.0: 1})
    check(jets, {0.0: 1})
    assert computed == 0
    assert len(asked) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"site": "mlp_out"},
        {"direction": "denoising"},
        {"backend": "taylor"},
        {"components": ((0, 0), (0, 1), (1, 0))},
        {"model": SimpleNamespace(**vars(MODEL) | {"hvp_identity": "other"})},
        {"tokens": replace(PAIR, target_ids=(6,))},
        {"tokens": replace(PAIR, corruption="abc")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_nothing_else_is_served(store, asked, changed):
    call = {"model": MODEL, "tokens": PAIR, "site": "attn_heads", "nodes": {0.0: 2}}
    stored_jets(store, **call)
    _, computed = stored_jets(store, **(call | changed))
    assert computed == 1


def test_the_name_of_a_prompt_does_not_matter(store, asked):
    stored_jets(store, MODEL, PAIR, "attn_heads", {0.0: 2})
    renamed = replace(PAIR, prompt_id="another")
    assert stored_jets(store, MODEL, renamed, "attn_heads", {0.0: 2})[1] == 0


def test_a_damaged_entry_is_computed_again(store, asked, caplog):
    request = {0.0: 2, 0.5: 1, 1.0: 0}
    stored_jets(store, MODEL, PAIR, "attn_heads", request)
    victim = sorted(files(store))[1]
    victim.write_bytes(victim.read_bytes()[:-1])
    jets, computed = stored_jets(store, MODEL, PAIR, "attn_heads", request)
    check(jets, request)
    assert computed == 1
    assert str(victim) in caplog.text
    assert stored_jets(store, MODEL, PAIR, "attn_heads", request)[1] == 0


def test_after_a_kill_only_the_missing_nodes_are_computed(store, asked, monkeypatch):
    request = {0.0: 2, 0.25: 2, 0.5: 1, 1.0: 0}
    real, writes = os.replace, []

    def killed_at_the_third(*args):
        if len(writes) == 2:
            raise KeyboardInterrupt
        writes.append(args)
        real(*args)

    monkeypatch.setattr(os, "replace", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        stored_jets(store, MODEL, PAIR, "attn_heads", request)
    monkeypatch.setattr(os, "replace", real)
    jets, computed = stored_jets(store, MODEL, PAIR, "attn_heads", request)
    check(jets, request)
    assert computed == 2
    assert asked == [request, {0.5: 1, 1.0: 0}]


def test_bad_pairs_are_refused_before_anything_is_read(store, asked):
    with pytest.raises(ValueError, match="lengths differ"):
        stored_jets(store, MODEL, replace(PAIR, clean_ids=(1, 2)), "attn_heads", {0.0: 2})
    assert not asked
    assert not Path(store.root).exists()


def test_stored_jets_are_the_computed_ones(store, tiny, make_pair):
    model, pair, request = tiny("tiny-gpt2"), make_pair(), {0.0: 2, 0.5: 1, 1.0: 0}
    direct = path_jets(model, pair, "mlp_out", request)
    for expected in (3, 0):
        jets, computed = stored_jets(store, model, pair, "mlp_out", request)
        assert computed == expected
        assert jets.nodes == direct.nodes
        assert torch.equal(jets.values.nan_to_num(-1), direct.values.nan_to_num(-1))
        pd.testing.assert_frame_equal(jets.components, direct.components)


# --- baselines ------------------------------------------------------------------------------


def test_a_stored_baseline_is_computed_once(store, tiny, make_pair, monkeypatch):
    model, calls = tiny("tiny-llama"), []
    pair = make_pair()
    truth = cache.BASELINES["gim"](model, pair)

    def counted(*args, metric):
        calls.append(args)
        return truth

    monkeypatch.setattr(cache, "BASELINES", {"gim": counted})
    for direction in ("noising", "noising", "denoising"):
        assert torch.equal(stored_baseline(store, model, pair, "gim", direction=direction), truth)
    assert [args[3] for args in calls] == ["noising", "denoising"]
    assert len(files(store)) == 2


def test_an_unknown_baseline_is_refused(store, tiny, make_pair):
    model = tiny("tiny-llama")
    with pytest.raises(ValueError, match="unknown baseline 'gmi'; known: gim"):
        stored_baseline(store, model, make_pair(), "gmi")
