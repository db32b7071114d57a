"""What path_jets accepts and refuses, the fallback of `auto`, and the Jets it returns."""

import logging

import pandas as pd
import pytest
import torch

from hvp_patching.paths import Jets, UnsupportedOperation, path_jets
from hvp_patching.paths.taylor.tensor import RULES, TaylorTensor, operation_name
from hvp_patching.prompts.pair import PromptPair, TokenPair
from hvp_patching.sites import SITES, Site


@pytest.fixture
def llama(tiny):
    return tiny("tiny-llama")


# --- errors ---------------------------------------------------------------------------------

REFUSED = {
    "unknown site": (
        {"site": "heads"},
        "unknown site 'heads'; choose one of: attn_heads, mlp_pre, mlp_post, mlp_out, resid_post",
    ),
    "unknown backend": (
        {"backend": "jax"},
        "unknown backend 'jax'; choose auto, taylor, autograd, tangent",
    ),
    "another node by tangents": (
        {"nodes": (0.0, 0.5), "backend": "tangent"},
        "backend 'tangent' reaches order 2 at node 0, not order 2 at node 0.5; choose backend "
        "'auto'",
    ),
    "order 3 by tangents": (
        {"order": 3, "backend": "tangent"},
        "backend 'tangent' reaches order 2 at node 0, not order 3 at node 0; choose backend 'auto'",
    ),
    "unknown direction": (
        {"direction": "forward"},
        "unknown direction 'forward'; choose one of: noising, denoising",
    ),
    "node below": ({"nodes": (0.0, -0.25)}, "node -0.25 lies outside [0, 1]"),
    "node above": ({"nodes": (1.5,)}, "node 1.5 lies outside [0, 1]"),
    "node not a number": ({"nodes": (float("nan"),)}, "node nan lies outside [0, 1]"),
    "order 4": ({"order": 4}, "order 4 requested; orders 0 to 3 are available"),
    "negative order": ({"nodes": {0.5: -1}}, "order -1 requested; orders 0 to 3 are available"),
    "node twice": ({"nodes": (0.5, 0.0, 0.5)}, "node 0.5 is requested twice"),
    "no nodes": ({"nodes": ()}, "no nodes requested; give at least one point in [0, 1]"),
    "order 1.5": ({"order": 1.5}, "order 1.5 requested; orders 0 to 3 are available"),
    "nodes of text": ({"nodes": "ab"}, "nodes are numbers in [0, 1], not 'ab'"),
    "one component": (
        {"components": (0, 1)},
        "components are a list of (layer, index) pairs of whole numbers, not (0, 1)",
    ),
    "half a component": (
        {"components": [(0.5, 1)]},
        "components are a list of (layer, index) pairs of whole numbers, not [(0.5, 1)]",
    ),
    "no components": ({"components": []}, "no component requested at site 'attn_heads'"),
    "component twice": (
        {"components": [(0, 1), (0, 1)]},
        "a component is requested twice at site 'attn_heads'",
    ),
    "layer outside": (
        {"components": [(3, 0)]},
        "layer 3 requested, but the model has 3 layers",
    ),
    "component outside": (
        {"components": [(1, 4)]},
        "component 4 requested at site 'attn_heads' in layer 1, which has 4",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_requests_end_in_one_line(case, llama, make_pair):
    options, message = REFUSED[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        path_jets(llama, make_pair(), **options)
    assert str(caught.value) == message


def test_a_model_in_train_mode_is_refused(llama, make_pair):
    part = llama.blocks[1].mlp
    part.train()
    try:
        with pytest.raises(ValueError, match=r"in train mode; call model\.eval\(\)"):
            path_jets(llama, make_pair())
    finally:
        llama.eval()
    path_jets(llama, make_pair(), order=0)


BAD_PAIRS = {
    "lengths differ": (TokenPair((5, 6), (5, 6, 7), (8,), "p7"), ("'p7'", "2 tokens", "3")),
    "identical": (TokenPair((5, 6), (5, 6), (8,), "p8"), ("'p8'", "identical")),
    "several tokens": (
        PromptPair("John met", "Mary met", " unseenword", "p9"),
        ("'p9'", "' unseenword'", "tokens"),
    ),
    "outside vocabulary": (TokenPair((5, 6), (5, 9999), (8,), "p10"), ("'p10'", "9999")),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_bad_pairs_name_the_prompt_and_the_values(case, llama):
    pair, parts = BAD_PAIRS[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its parts are compared)
        path_jets(llama, pair)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("attn.hook_absent", "Hook name 'blocks.0.attn.hook_absent' does not exist on this model."),
        ("attn.hook_hidden_states", "attn.hook_hidden_states never runs in this model"),
    ],
)
def test_a_model_without_the_site_is_named(hook, message, llama, make_pair, monkeypatch):
    monkeypatch.setitem(SITES, "attn_heads", Site("attn_heads", hook, -2))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        path_jets(llama, make_pair())
    assert str(caught.value) == f"site 'attn_heads': {message}"


# --- the fallback ---------------------------------------------------------------------------


def test_an_unknown_operation_is_named(llama, make_pair, monkeypatch):
    monkeypatch.delitem(RULES, "silu")
    with pytest.raises(UnsupportedOperation) as caught:
        path_jets(llama, make_pair(), backend="taylor")
    assert str(caught.value) == "Taylor mode has no rule for the operation 'silu'"


def test_auto_falls_back_with_one_warning(llama, make_pair, monkeypatch, caplog):
    pair = make_pair()
    expected = path_jets(llama, pair, nodes=(0.0, 0.5), backend="autograd").values
    monkeypatch.delitem(RULES, "silu")
    with caplog.at_level(logging.WARNING):
        jets = path_jets(llama, pair, nodes=(0.0, 0.5))
    assert torch.equal(jets.values, expected)
    assert [record.getMessage() for record in caplog.records] == [
        "Taylor mode has no rule for the operation 'silu'; falling back to the autograd backend"
    ]


def test_auto_falls_back_on_any_failure(llama, make_pair, monkeypatch, caplog):
    def broken(x, *args, **kwargs):
        raise IndexError("broken")

    expected = path_jets(llama, make_pair(), backend="autograd").values
    monkeypatch.setitem(RULES, "silu", broken)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(path_jets(llama, make_pair()).values, expected)
    assert len(caplog.records) == 1
    monkeypatch.setitem(RULES, "silu", lambda x, **_: x.c0)  # coefficients lost on the way
    assert torch.equal(path_jets(llama, make_pair()).values, expected)
    monkeypatch.setitem(RULES, "silu", lambda x, **_: RULES["tanh"](x))  # another function
    with pytest.raises(UnsupportedOperation, match=r"Taylor mode gives f\(0\) = .* where the unp"):
        path_jets(llama, make_pair(), nodes=(0.5,), backend="taylor")


def test_memory_that_runs_out_is_no_reason_to_fall_back(llama, make_pair, monkeypatch):
    def full(x, *args, **kwargs):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setitem(RULES, "silu", full)
    with pytest.raises(torch.OutOfMemoryError):
        path_jets(llama, make_pair())


def test_a_single_node_and_a_table_of_components_are_understood(llama, make_pair):
    pair = make_pair()
    one = path_jets(llama, pair, nodes=0.5, order=1, components=[(0, 1), (2, 3)])
    assert one.nodes == (0.5,)
    again = path_jets(llama, pair, nodes=[0.5], order=1, components=one.components)
    assert torch.equal(one.values, again.values)


def test_nothing_bypasses_the_rules():
    x = TaylorTensor(torch.zeros(1, 2), torch.zeros(1, 3, 2), 3)
    with (
        torch._C.DisableTorchFunctionSubclass(),
        pytest.raises(UnsupportedOperation, match=r"bypassed by the operation 'aten\.add"),
    ):
        x + 1.0


def test_a_taylor_tensor_shows_what_it_is():
    x = TaylorTensor(torch.zeros(1, 2), torch.zeros(2, 3, 2), 3)
    assert repr(x) == "TaylorTensor(shape=(3, 2), order=2, rows=3)"
    assert (x.shape, x.dtype, x.ndim, x.numel(), len(x)) == ((3, 2), torch.float32, 2, 6, 3)
    assert x.order == 2
    assert x.shared


def test_operations_have_bare_names():
    assert operation_name(torch.Tensor.add) == "add"
    assert operation_name(torch.nn.functional.linear) == "linear"
    assert operation_name(torch.Tensor.shape.__get__) == "shape"


# --- Jets -----------------------------------------------------------------------------------


@pytest.fixture
def jets():
    values = torch.arange(12, dtype=torch.float64).reshape(2, 2, 3)
    values[:, 1, 2] = torch.nan
    return Jets(values, (0.0, 0.25), pd.DataFrame({"layer": [0, 3], "index": [1, 2]}))


def test_at_gives_one_derivative_of_all_components(jets):
    assert jets.at(0.25, 1).tolist() == [4.0, 10.0]
    assert jets.at(0.0, 2).tolist() == [2.0, 8.0]


@pytest.mark.parametrize(("node", "order"), [(0.5, 0), (0.25, 2), (0, 3)])
def test_a_missing_derivative_is_named(jets, node, order):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        jets.at(node, order)
    assert str(caught.value) == (
        f"the jets hold no derivative of order {order} at node {node}; "
        "compute them with path_jets(nodes=..., order=...)"
    )


def test_frames_keep_everything(jets):
    frame = jets.to_frame("ioi-3")
    assert list(frame.columns) == ["prompt_id", "layer", "index", "node", "f", "f1", "f2"]
    assert frame.iloc[2].tolist()[:6] == ["ioi-3", 3, 2, 0.0, 6.0, 7.0]
    back = Jets.from_frame(frame)
    assert back.nodes == jets.nodes
    assert torch.equal(back.values.nan_to_num(-1.0), jets.values.nan_to_num(-1.0))
    pd.testing.assert_frame_equal(back.components, jets.components)


def test_a_frame_out_of_order_is_refused(jets):
    with pytest.raises(ValueError, match="sort by layer, index, node"):
        Jets.from_frame(jets.to_frame("x").iloc[[0, 2, 1, 3]])
    with pytest.raises(ValueError, match="sort by layer, index, node"):
        Jets.from_frame(jets.to_frame("x").iloc[:3])


def test_components_come_in_layer_and_index_order(llama, make_pair):
    jets = path_jets(llama, make_pair(), order=0)
    pairs = list(jets.components.itertuples(index=False, name=None))
    assert pairs == [(layer, index) for layer in range(3) for index in range(4)]
    assert jets.values.dtype == torch.float64
