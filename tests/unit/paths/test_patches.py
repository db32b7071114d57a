"""Patches of one's own, positions apart, rows of several hooks: against plain forward passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
import torch

import hvp_patching as hp
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import Jets, Patch, gauss_newton_form, path_jets, site_attribution
from hvp_patching.paths.precision import keep_precision
from hvp_patching.screening import screen_flag_fix
from hvp_patching.sites import SITES

BACKENDS = ("taylor", "autograd")
NODES = (0.0, 0.5)
STEP = 0.02


def plain(model: Any, ids: Sequence[int], hook: str, shift: torch.Tensor, nodes: Any) -> Any:
    """The last logits [n_nodes, vocabulary] with t·shift added at a hook over the whole prompt."""
    t = torch.tensor(nodes, dtype=torch.float64)

    def add(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        return activation + t.view(-1, *[1] * shift.ndim) * shift

    rows = torch.tensor([ids]).expand(len(t), -1)
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        logits = model.run_with_hooks(rows, fwd_hooks=[(hook, add)], return_type="logits")
    return logits[:, -1].double()


def activation(model: Any, ids: Sequence[int], hook: str) -> torch.Tensor:
    """The activation at a hook, [n_pos, ...]."""
    found = []
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        model.run_with_hooks(
            torch.tensor([ids]), fwd_hooks=[(hook, lambda a, hook: found.append(a.clone()))]
        )
    return found[0][0]


def differences(
    m: Callable[[torch.Tensor], torch.Tensor], model: Any, ids: Any, hook: str, shift: torch.Tensor
) -> torch.Tensor:
    """f, f', f'' at NODES [n_nodes, 3] by central differences, extrapolated once (Richardson)."""
    offsets = [0.0] + [sign * h for h in (STEP, STEP / 2, STEP / 4) for sign in (1, -1)]
    logits = plain(model, ids, hook, shift, [node + o for node in NODES for o in offsets])
    rows = []
    for f, *beside in m(logits).view(len(NODES), -1).tolist():
        first, second = [], []
        for i, h in enumerate((STEP, STEP / 2, STEP / 4)):
            above, below = beside[2 * i : 2 * i + 2]
            first.append((above - below) / (2 * h))
            second.append((above - 2 * f + below) / h**2)
        rows.append([f, richardson(first), richardson(second)])
    return torch.tensor(rows, dtype=torch.float64)


def richardson(column: list[float]) -> float:
    """Limit of estimates at steps h, h/2, h/4 whose error is a series in h²."""
    for power in (4, 16):
        column = [(power * b - a) / (power - 1) for a, b in pairwise(column)]
    return column[0]


def logprob(pair: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda logits: torch.softmax(logits, -1)[:, list(pair.target_ids)].sum(-1).log()


def agree(values: torch.Tensor, expected: torch.Tensor) -> None:
    assert bool((expected != 0).all())
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-7)


def message(call: Callable[[], Any]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared)
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- patches of one's own -------------------------------------------------------------------


def features(model: Any, pair: Any, layer: int, n: int = 3, seed: int = 0) -> list[Patch]:
    """As features of a sparse autoencoder: what each changes by, times its decoder row."""
    draw = torch.Generator().manual_seed(seed)
    hook = f"blocks.{layer}.hook_resid_post"
    n_pos, width = activation(model, pair.clean_ids, hook).shape
    amounts = torch.randn(n, n_pos, generator=draw, dtype=torch.float64)
    amounts[:, : pair.first_changed] = 0
    decoder = torch.randn(n, width, generator=draw, dtype=torch.float64) / width**0.5
    return [Patch(hook, layer, torch.outer(f, d)) for f, d in zip(amounts, decoder, strict=True)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_rank_one_directions_in_the_residual_stream(family, backend, tiny, make_pair):
    model, pair = tiny(family), make_pair((4, 6))
    patches = features(model, pair, 0) + features(model, pair, 1, seed=1)
    jets = path_jets(model, pair, patches=patches, nodes=NODES, backend=backend)
    assert jets.components["layer"].tolist() == [0, 0, 0, 1, 1, 1]
    assert jets.components["index"].tolist() == [0, 1, 2, 3, 4, 5]
    for patch, values in zip(patches, jets.values, strict=True):
        m = logprob(pair)
        agree(values, differences(m, model, pair.clean_ids, patch.hook, patch.direction))


KINDS = (
    "attn.hook_v",
    "attn.hook_q",
    "attn.hook_k",
    "hook_resid_mid",
    "hook_resid_pre",
    "ln2.hook_in",
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_several_hooks_of_a_layer_do_not_meet(family, backend, tiny, make_pair):
    """Given in no order: queries, keys and values are branches beside one another."""
    model, pair = tiny(family), make_pair((4, 6))
    draw, patches = torch.Generator().manual_seed(3), []
    for layer in (1, 0):
        for kind in KINDS:
            name = f"blocks.{layer}.{kind}"
            if name not in model.hook_dict:
                continue
            a = activation(model, pair.clean_ids, name)
            direction = torch.randn(a.shape, generator=draw, dtype=a.dtype) * a.std() / 8
            direction[: pair.first_changed] = 0
            patches.append(Patch(name, layer, direction))
    assert len(patches) >= 8
    jets = path_jets(model, pair, patches=patches, nodes=NODES, backend=backend)
    for patch, values in zip(patches, jets.values, strict=True):
        m = logprob(pair)
        agree(values, differences(m, model, pair.clean_ids, patch.hook, patch.direction))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_direction_before_the_first_changed_token_is_followed(backend, tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair((9,))
    hook = "blocks.1.hook_resid_post"
    direction = torch.zeros_like(activation(model, pair.clean_ids, hook))
    direction[3] = 0.5
    jets = path_jets(model, pair, patches=[Patch(hook, 1, direction)], nodes=NODES, backend=backend)
    alone = Patch(hook, 1, direction[3], position=3)
    again = path_jets(model, pair, patches=[alone], nodes=NODES, backend=backend)
    expected = differences(logprob(pair), model, pair.clean_ids, hook, direction)
    agree(jets.values[0], expected)
    agree(again.values[0], expected)
    assert again.components.to_dict("records") == [{"layer": 1, "index": 0, "position": 3}]


def test_a_sites_own_change_as_a_patch_is_the_site(tiny, make_pair):
    """Over the prompt, with its batch, from the first changed token on, and at one head."""
    model, pair = tiny("tiny-gemma2"), make_pair((4, 6))
    hook = "blocks.1.attn.hook_z"
    delta = activation(model, pair.corrupted_ids, hook) - activation(model, pair.clean_ids, hook)
    expected = path_jets(model, pair, components=[(1, 2)]).values
    only = torch.zeros_like(delta)
    only[:, 2] = delta[:, 2]
    for patch in (
        Patch(hook, 1, only),
        Patch(hook, 1, only[None]),
        Patch(hook, 1, only[pair.first_changed :]),
        Patch(hook, 1, delta[:, 2], part=(2,)),
    ):
        found = path_jets(model, pair, patches=[patch]).values
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_patches_are_screened(tiny, make_pair):
    model, pair = tiny("tiny-gpt2"), make_pair()
    patches = features(model, pair, 1)
    table = screen_flag_fix(model, pair, patches=iter(patches), fix="ms_hvp_3", tau=0.0)
    expected = hp.estimators.MS_HVP(3)
    jets = path_jets(model, pair, patches=patches, nodes=expected.request())
    torch.testing.assert_close(torch.tensor(table["fixed"].to_numpy()), expected(jets))
    assert table["index"].tolist() == [0, 1, 2]


HOOK = "blocks.1.hook_resid_post"
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "shape": (
        lambda d: [Patch(HOOK, 1, d[:, :5])],
        "patch 0 at blocks.1.hook_resid_post: its direction is (14, 5); the activation is (14, 32)",
    ),
    "positions": (lambda d: [Patch(HOOK, 1, d[:9])], "its direction is (9, 32); the activation is"),
    "one position": (lambda d: [Patch(HOOK, 1, d, position=6)], "and one position has (32,)"),
    "position outside": (
        lambda d: [Patch(HOOK, 1, d[0], position=14)],
        "position 14 lies outside prompt 'seed-0', which has 14 positions (0 to 13)",
    ),
    "part outside": (
        lambda d: [Patch(HOOK, 1, d[:, 0], part=(40,))],
        "part (40,) lies outside its activation (32,)",
    ),
    "unknown hook": (
        lambda d: [Patch("blocks.1.hook_nothing", 1, d)],
        "'blocks.1.hook_nothing' does not exist on this model",
    ),
    "layer outside": (
        lambda d: [Patch("blocks.7.hook_resid_post", 7, d)],
        "patch 0 is in layer 7, but the model has 3 layers",
    ),
    "another layer": (
        lambda d: [Patch(HOOK, 2, d)],
        "patch 0 is in layer 2, but its hook is blocks.1.hook_resid_post",
    ),
    "NaN": (lambda d: [Patch(HOOK, 1, d * torch.nan)], "its direction holds nan"),
    "whole numbers": (lambda d: [Patch(HOOK, 1, d.long())], "its direction is torch.int64"),
    "an array": (lambda d: [Patch(HOOK, 1, d.numpy())], "its direction is float64, no tensor"),
    "no patch": (lambda d: [d.mean()], "patch 0 is tensor("),
    "none": (lambda d: [], "no patches given"),
    "twice": (
        lambda d: [Patch(HOOK, 1, d, index=4), Patch(HOOK, 1, 2 * d, index=4)],
        "two patches are called (1, 4)",
    ),
    "some apart": (
        lambda d: [Patch(HOOK, 1, d), Patch(HOOK, 1, d[0], position=6)],
        "some patches have a position and others none",
    ),
    "attention pattern": (
        lambda d: [Patch("blocks.1.attn.hook_pattern", 1, d)],
        "which is not one activation for each of 14 tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_patches_that_cannot_be_meant_end_in_one_line(case, tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair()
    width = activation(model, pair.clean_ids, HOOK).shape[1]
    make, expected = REFUSED[case]
    patches = make(torch.ones(14, width, dtype=torch.float64))
    expected = expected.replace("32", str(width))
    assert expected in message(lambda: path_jets(model, pair, patches=patches))


@pytest.mark.parametrize(
    "option", [{"site": "mlp_out"}, {"positions": "each"}, {"components": [(0, 0)]}]
)
def test_patches_and_a_site_are_not_mixed(option, tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair()
    found = message(lambda: path_jets(model, pair, patches=features(model, pair, 1), **option))
    assert found.startswith(f"{next(iter(option))} and patches are given")


# --- positions ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-gemma2"])
def test_each_position_is_patched_alone(family, site, backend, tiny, make_pair):
    model, pair = tiny(family), make_pair((4, 6), n=9)
    components = [(0, 0), (2, 0)]
    options = {"components": components, "backend": backend}
    jets = path_jets(model, pair, site, NODES, positions="each", **options)
    places = [(*component, p) for component in components for p in range(9)]
    assert list(jets.components.itertuples(index=False, name=None)) == places
    apart = hp.activation_patching(model, pair, site, positions="each", **options)
    for (layer, index, p), values, effect in zip(places, jets.values, apart, strict=True):
        hook = SITES[site].hook_name(layer)
        a, other = (activation(model, ids, hook) for ids in (pair.clean_ids, pair.corrupted_ids))
        where = (p, *SITES[site].part(index))
        shift = torch.zeros_like(a)
        shift[where] = (other - a)[where]
        if p < pair.first_changed:
            f = logprob(pair)(plain(model, pair.clean_ids, hook, shift, [0.0]))
            torch.testing.assert_close(values[:, 0], f.expand(2))
            assert bool((values[:, 1:] == 0).all())
            assert effect == 0
            continue
        expected = differences(logprob(pair), model, pair.clean_ids, hook, shift)
        if p != 4 and bool((expected[:, 1:].abs() < 1e-12).all()):
            continue  # the last layer's positions but the last
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-7)
        ends = logprob(pair)(plain(model, pair.clean_ids, hook, shift, [0.0, 1.0]))
        torch.testing.assert_close(effect, ends[1] - ends[0], rtol=1e-9, atol=1e-10)
    moving = jets.values[:, :, 1].abs() > 1e-9
    assert int(moving.all(1).sum()) >= 5


@pytest.mark.parametrize("site", SITES)
def test_positions_add_up_to_the_component(site, tiny, make_pair):
    """In attribution patching, which is linear in δ; by path, and by one reverse pass."""
    model, pair = tiny("tiny-llama"), make_pair((4, 6))
    apart = site_attribution(model, pair, site, positions="each")
    whole = site_attribution(model, pair, site)
    torch.testing.assert_close(apart.view(-1, 14).sum(1), whole, rtol=1e-9, atol=1e-12)
    assert bool((whole != 0).any())
    components = [(0, 0), (1, 0)]
    some = path_jets(model, pair, site, components=components, order=1, positions=[9, 4])
    assert some.components["position"].tolist() == [9, 4, 9, 4]
    per_layer = len(whole) // 3
    for i, place in enumerate((0, per_layer)):
        expected = apart.view(-1, 14)[place, [9, 4]]
        torch.testing.assert_close(some.values[2 * i : 2 * i + 2, 0, 1], expected)


def test_positions_under_zero_corruption(tiny, make_pair):
    """δ = −a at every position: nothing is before the first changed token."""
    model, pair = tiny("tiny-gpt2"), replace(make_pair(), corruption="zero")
    jets = path_jets(model, pair, "mlp_out", components=[(0, 0)], positions="each", nodes=NODES)
    hook = "blocks.0.hook_mlp_out"
    a = activation(model, pair.clean_ids, hook)
    for p, values in enumerate(jets.values):
        shift = torch.zeros_like(a)
        shift[p] = -a[p]
        agree(values, differences(logprob(pair), model, pair.clean_ids, hook, shift))


def test_frames_carry_positions(tiny, make_pair):
    jets = path_jets(tiny("tiny-llama"), make_pair(), components=[(1, 2)], positions=[5, 3])
    frame = jets.to_frame("p")
    assert list(frame.columns) == [
        "prompt_id",
        "layer",
        "index",
        "position",
        "node",
        "f",
        "f1",
        "f2",
    ]
    back = Jets.from_frame(frame)
    assert torch.equal(back.values, jets.values)
    pd.testing.assert_frame_equal(back.components, jets.components)


def test_a_table_with_positions_is_a_request(tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair()
    jets = path_jets(model, pair, components=[(1, 2), (0, 1)], positions=[5, 3, 9])
    chosen = [4, 0, 5]
    again = path_jets(model, pair, components=jets.components.iloc[chosen])
    torch.testing.assert_close(again.values, jets.values[chosen], rtol=1e-12, atol=1e-13)
    found = message(lambda: path_jets(model, pair, components=jets.components, positions=[3]))
    assert "the table of components names their positions" in found


def test_screening_positions_fixes_the_flagged_ones(tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair()
    options = {"components": [(0, 1), (1, 2)], "positions": "each"}
    table = screen_flag_fix(model, pair, tau=0.05, fix="ms_hvp_3", **options)
    rule = hp.estimators.MS_HVP(3)
    best = rule(path_jets(model, pair, nodes=rule.request(), **options))
    ap = site_attribution(model, pair, positions="each").view(-1, 14)[[1, 6]].flatten()
    flagged = torch.tensor(table["flagged"].to_numpy())
    assert 0 < int(flagged.sum()) < len(flagged)
    expected = torch.where(flagged, best, ap)
    torch.testing.assert_close(torch.tensor(table["fixed"].to_numpy()), expected)
    still = table["position"] < pair.first_changed
    assert bool((table.loc[still, "ap"] == 0).all())
    assert not table.loc[still, "flagged"].any()


def test_baselines_take_positions(tiny, make_pair):
    """Linear in δ, or in δ and δ², position by position: they add up to the component's."""
    model, pair = tiny("tiny-gemma2"), make_pair((4, 6))
    for baseline, site in ((hp.gim, "attn_heads"), (hp.local_curvature, "mlp_pre")):
        apart = baseline(model, pair, site, positions="each").view(-1, 14)
        torch.testing.assert_close(apart.sum(1), baseline(model, pair, site), rtol=1e-9, atol=1e-12)
    ap, form = gauss_newton_form(model, pair, positions=[2, 7], components=[(1, 0)])
    assert (ap[0], form[0]) == (0, 0)
    expected = site_attribution(model, pair, positions=[7])[4]
    torch.testing.assert_close(ap[1], expected)
    assert form[1] != 0


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([14], "position 14 lies outside prompt 'seed-0', which has 14 positions (0 to 13)"),
        ([-1], "position -1 lies outside prompt 'seed-0'"),
        ("all", "positions are 'each' or a list of whole numbers, not 'all'"),
        ([1.5], "positions are 'each' or a list of whole numbers, not [1.5]"),
        (3, "positions are 'each' or a list of whole numbers, not 3"),
        ([], "no positions requested"),
        ([4, 4], "a position is requested twice in [4, 4]"),
    ],
)
def test_positions_that_cannot_be_meant_end_in_one_line(positions, expected, tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair()
    for call in (path_jets, hp.activation_patching, screen_flag_fix, site_attribution, hp.gim):
        assert message(lambda c=call: c(model, pair, positions=positions)).startswith(expected)
