"""Files of autoencoders: read as they were written, and refused in one line."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from hvp_patching.features import load_autoencoder, save_autoencoder
from hvp_patching.models.errors import ModelError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"


@pytest.fixture
def folder(made, tmp_path):
    save_autoencoder(made(12), tmp_path)
    return tmp_path


def change(folder, **values):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def refused(folder, match, model=None):
    with pytest.raises(ModelError, match=match) as caught:
        load_autoencoder(folder, model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu"])
def test_what_was_written_is_read(made, tmp_path, activation):
    written = made(12, activation)
    save_autoencoder(written, tmp_path)
    read = load_autoencoder(tmp_path, dtype=torch.float64)
    assert read.kind == written.kind
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(read.encode(x), written.encode(x), rtol=1e-5, atol=1e-5)
    assert written.encode(x).abs().max() > 0.1


def test_pickled_weights_are_never_read(folder):
    (folder / WEIGHTS).unlink()
    (folder / "sae_weights.pt").write_bytes(pickle.dumps({}))
    refused(folder, r"only sae_weights\.pt: .*pickle files are never read")


def test_a_pickle_by_another_name_is_never_read(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps({"W_enc": 1}))
    refused(folder, "damaged or no safetensors file")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder, bad):
    weights = load_file(folder / WEIGHTS)
    weights["W_dec"][0, 0] = bad
    save_file(weights, folder / WEIGHTS)
    refused(folder, "W_dec holds NaN or infinite numbers")


def test_missing_files_and_tensors(folder):
    weights = load_file(folder / WEIGHTS)
    del weights["b_enc"]
    save_file(weights, folder / WEIGHTS)
    refused(folder, "lacks b_enc")
    (folder / CONFIG).unlink()
    refused(folder, r"no cfg\.json in ")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"architecture": "gated"}, "has the architecture 'gated'; known"),
        ({"k": 17}, r"k = 17 of 16 features"),
        ({"k": "many"}, "it must be a whole number"),
        ({"d_in": 13}, "13"),
        ({"metadata": {}}, "names no hook"),
        ({"metadata": {"hook_name": "blocks.0.hook_mlp_out"}}, "residual stream"),
        ({"normalize_activations": "expected_average_only_in"}, "fold the factor"),
        ({"normalize_activations": "odd"}, "has the normalisation 'odd'"),
        ({"metadata": ["blocks.0.hook_resid_pre"]}, "metadata in cfg.json is .* an object"),
        ({"metadata": "x" * 10**5}, r"metadata in cfg.json is 'x+\.\.\."),
        ({"model_from_pretrained_kwargs": "yes"}, "kwargs in cfg.json is 'yes'; it must be an obj"),
        ({"activation_fn_kwargs": 3}, "activation_fn_kwargs in cfg.json is 3; it must be an obj"),
        ({"metadata": {"hook_name": [1]}}, "residual stream"),
        ({"architecture": ["topk"]}, "has the architecture"),
        ({"normalize_activations": ["none"]}, "has the normalisation"),
        ({"d_sae": "many"}, "says d_sae = many"),
    ],
)
def test_configurations_that_mean_something_else(folder, values, match):
    change(folder, **values)
    refused(folder, match)


def test_one_of_another_width_or_model(folder, made, tiny):
    model = tiny("tiny-gpt2")
    refused(folder, "wide and the model's residual stream", model)
    save_autoencoder(made(model.cfg.d_model), folder, {"model_name": "tiny-pythia"})
    refused(folder, "tiny-pythia", model)
