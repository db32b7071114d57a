"""Identity follows the weights as they are now."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from hvp_patching.models import ModelError, from_huggingface, load_model
from hvp_patching.models.identity import current_identity, shared_identities
from hvp_patching.models.tiny import FAMILIES, build_tiny

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.mark.parametrize("name", FAMILIES)
def test_running_a_model_leaves_its_identity(name: str) -> None:
    model = load_model(name, device="cpu")
    with torch.no_grad():
        model(IDS)
        model.run_with_cache(IDS)
    assert current_identity(model) == model.hvp_identity


def _scale(weight: torch.Tensor) -> None:
    weight.mul_(1.5)


def _behind_its_back(weight: torch.Tensor) -> None:
    version = weight._version
    weight.data[0, 0] += 1e-3
    assert weight._version == version  # what a version counter would not see


def _swap_rows(weight: torch.Tensor) -> None:
    weight.data[[0, 1]] = weight.data[[1, 0]].clone()


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gpt2"])
@pytest.mark.parametrize("edit", [_scale, _behind_its_back, _swap_rows])
def test_an_edit_in_place_is_another_identity_until_it_is_undone(name: str, edit: object) -> None:
    model, twin = (load_model(name, device="cpu") for _ in range(2))
    found = set()
    for one in (model, twin):
        weight = max(
            one.blocks[1].mlp.parameters(), key=lambda p: p.ndim
        )  # the bridge's own view of the weights
        before, outputs = weight.clone(), one(IDS)
        edit(weight)
        assert not torch.equal(one(IDS), outputs)
        found.add(current_identity(one))
        weight.data.copy_(before)
        assert current_identity(one) == one.hvp_identity
    assert len(found) == 1  # the same edit of the same weights
    assert found != {model.hvp_identity}


def test_an_edit_of_the_model_that_was_handed_over_counts() -> None:
    plain, tokenizer = build_tiny("tiny-llama")
    model = from_huggingface(plain, tokenizer, True)
    plain.get_input_embeddings().weight.data[5] *= 2
    assert current_identity(model) != model.hvp_identity


def test_a_replaced_weight_and_a_changed_configuration_count() -> None:
    model = load_model("tiny-llama", device="cpu")
    model.original_model.config.rms_norm_eps = 1e-2
    assert current_identity(model) != model.hvp_identity
    model = load_model("tiny-llama", device="cpu")
    embedding = model.original_model.get_input_embeddings()
    embedding.weight = torch.nn.Parameter(embedding.weight * 2)
    assert current_identity(model) != model.hvp_identity


def test_a_model_without_identity_is_told_how_to_get_one() -> None:
    with pytest.raises(ModelError, match=r"carries no hvp_identity.*hvp_patching\.load_model"):
        current_identity(SimpleNamespace())


def test_an_identity_is_read_once_where_the_caller_says_so_and_anew_behind_it() -> None:
    model, other = (load_model("tiny-gpt2", device="cpu") for _ in range(2))
    weight = next(iter(model.blocks[1].mlp.parameters()))
    with shared_identities():
        assert current_identity(model) == model.hvp_identity
        weight.data.mul_(1.5)
        assert current_identity(model) == model.hvp_identity  # the caller promised
        next(iter(other.parameters())).data.mul_(2)
        assert current_identity(other) != other.hvp_identity  # its own, not the first one's
    assert current_identity(model) != model.hvp_identity
