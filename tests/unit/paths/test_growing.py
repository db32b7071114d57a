"""A batch that grows from one row to many: at the hook, from the start, or not at all."""

import logging

import pytest
import torch

from hvp_patching.paths import UnsupportedOperation, hessian_vector_products, path_jets
from hvp_patching.screening import screen_flag_fix


@pytest.mark.parametrize("site", ["attn_heads", "mlp_post", "resid_post"])
def test_bloom_repeats_its_input(site, other, make_pair, plain_path, caplog):
    """Its masks and its position biases are built for the rows that come in."""
    model, pair = other("bloom"), make_pair()
    path = plain_path(model, pair, site)
    components = path.largest()
    with caplog.at_level(logging.WARNING):
        jets = path_jets(model, pair, site, {0.0: 2, 0.5: 2, 1.0: 0}, components=components)
    assert "falling back to the autograd backend" in caplog.text
    for (layer, index), values in zip(components, jets.values, strict=True):
        expected = path.derivatives(layer, index, (0.0, 0.5))[:, :3]
        assert bool((expected != 0).all())
        torch.testing.assert_close(values[:2], expected, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(values[2, 0], path.f(layer, index, (1.0,))[0])


def test_bloom_in_taylor_mode_is_refused_in_one_line(other, make_pair):
    with pytest.raises(UnsupportedOperation) as caught:
        path_jets(other("bloom"), make_pair(), backend="taylor")
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_blooms_vector_products_are_those_of_its_jets(other, make_pair):
    model, pair, components = other("bloom"), make_pair(), [(0, 1), (2, 3)]
    products = hessian_vector_products(model, pair, nodes=(0.5,), components=components)
    jets = path_jets(model, pair, nodes=(0.5,), backend="autograd", components=components)
    torch.testing.assert_close(products.f2[:, 0], jets.at(0.5, 2), rtol=1e-9, atol=1e-12)


def test_a_model_that_takes_one_row_only_is_named(fresh_other, make_pair):
    model = fresh_other("llama")

    def narrow(_, args):
        if len(args[0]) > 1:
            raise RuntimeError("one row at a time\nplease")

    model.original_model.model.norm.register_forward_pre_hook(narrow)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        path_jets(model, make_pair(), backend="autograd")
    assert str(caught.value) == (
        "LlamaForCausalLM cannot run several patched rows at site 'attn_heads': one row at a time"
    )


def test_rows_that_mix_are_found_out(fresh_other, make_pair):
    """A model whose rows depend on their number would give every patch a share of the others."""
    model = fresh_other("llama")
    norm = model.original_model.model.norm
    norm.register_forward_hook(lambda _, args, y: y * (1 + 0.01 * (len(y) - 1)))
    with pytest.raises(ValueError, match=r"a batch of two rows gives f\(0\) = .* where the"):
        path_jets(model, make_pair(), backend="autograd")
    with pytest.raises(UnsupportedOperation, match=r"Taylor mode gives f\(0\) = "):
        path_jets(model, make_pair(), nodes=(0.5,), backend="taylor")


def test_experts_are_screened_by_autograd(other, make_pair, plain_path, caplog):
    """Their flattened positions meet rules that would broadcast: Taylor mode gives way."""
    model, pair = other("mixtral"), make_pair()
    path = plain_path(model, pair, "attn_heads")
    with caplog.at_level(logging.WARNING):
        table = screen_flag_fix(model, [pair], components=path.largest(), tau=0.0)
    assert "falling back to the autograd backend" in caplog.text
    for row in table.itertuples():
        f1, f2 = path.derivatives(row.layer, row.index, (0.0,))[0, 1:3].tolist()
        assert row.ap == pytest.approx(f1, rel=1e-6)
        assert row.fixed == pytest.approx(f1 + f2 / 2, rel=1e-6)
