"""Fixtures: a closed network, tiny wheels, and a tiny GGUF file."""

from __future__ import annotations

import hashlib
import json
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from huggingface_hub import constants

from hvp_patching.models import notices, registry
from hvp_patching.models.convert import convert_gguf
from hvp_patching.models.registry import ModelSpec, Wheel, WheelGGUF
from hvp_patching.models.tiny import build_tiny

torch.set_num_threads(1)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No socket connects, the hub client is offline and its cache is empty."""

    def refuse(*_: object) -> None:
        raise OSError("a test tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def save_tiny(name: str, folder: Path, stand_in_for: str = "", **config: object) -> Path:
    """A tiny model in the Hub's format, with changes to its configuration."""
    model, tokenizer = build_tiny(name)
    if stand_in_for:
        config["hvp_stand_in_for"] = stand_in_for
    for key, value in config.items():
        setattr(model.config, key, value)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """tiny-gpt2 in the Hub's format, marked as a stand-in for gpt2-small."""
    return save_tiny("tiny-gpt2", tmp_path / "checkpoint", "gpt2-small")


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[..., Wheel]:
    """Write a wheel into tmp_path/index, and return its pinned entry."""

    def make(project: str, members: dict[str, bytes]) -> Wheel:
        index = tmp_path / "index"
        index.mkdir(exist_ok=True)
        wheel = Wheel(project, "1.0", "", 0, tuple(members))
        info = f"{project.replace('-', '_')}-1.0.dist-info"
        path = index / wheel.filename
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
            archive.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        raw = path.read_bytes()
        return Wheel(project, "1.0", hashlib.sha256(raw).hexdigest(), len(raw), tuple(members))

    return make


@pytest.fixture
def pip_args(tmp_path: Path) -> list[str]:
    """Make pip look into tmp_path/index and nowhere else."""
    (tmp_path / "index").mkdir(exist_ok=True)
    return ["--no-index", "--find-links", str(tmp_path / "index")]


def _interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF's order of the rotary rows of q and k in the llama architecture."""
    rows = weight.shape[0]
    halves = weight.reshape(heads, 2, rows // heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-llama as a Q4_1 GGUF file (norms in float32), with its vocabulary as a BPE."""
    model, tokenizer = build_tiny("tiny-llama")
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    bpe = tokenizer.backend_tokenizer.model
    vocab = tokenizer.get_vocab()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(sorted(vocab, key=vocab.__getitem__))
    special = set(tokenizer.all_special_ids)
    kinds = [
        int(gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL)
        for i in range(len(vocab))
    ]
    writer.add_token_types(kinds)
    writer.add_token_merges(_merges(bpe))
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = {
        "self_attn.q_proj": ("attn_q", config.num_attention_heads),
        "self_attn.k_proj": ("attn_k", config.num_key_value_heads),
        "self_attn.v_proj": ("attn_v", 0),
        "self_attn.o_proj": ("attn_output", 0),
        "mlp.gate_proj": ("ffn_gate", 0),
        "mlp.up_proj": ("ffn_up", 0),
        "mlp.down_proj": ("ffn_down", 0),
        "input_layernorm": ("attn_norm", 0),
        "post_attention_layernorm": ("ffn_norm", 0),
    }
    outer = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for key, tensor in model.state_dict().items():
        value, heads = tensor.numpy(), 0
        if key in outer:
            name = outer[key]
        else:
            _, _, layer, rest = key.split(".", 3)
            short, heads = names[rest.removesuffix(".weight")]
            name = f"blk.{layer}.{short}.weight"
        value = _interleave(value, heads) if heads else value
        if value.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def converted(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder made from the tiny GGUF file; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("converted") / "model"
    return convert_gguf(tiny_gguf, folder, registry.get_spec("tiny-llama"))


def _merges(bpe: object) -> list[str]:
    state = json.loads(bpe.__getstate__())  # the only way to a trained model's merges
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in state["merges"]]


@pytest.fixture
def wheel_model(
    tiny_gguf: Path, make_wheel: Callable[..., Wheel], monkeypatch: pytest.MonkeyPatch
) -> ModelSpec:
    """A registered model whose GGUF lies in two wheels, with licence terms in the first."""
    raw = tiny_gguf.read_bytes()
    middle = len(raw) // 3
    wheels = (
        make_wheel("hvp-fake-head", {"fake/TERMS.html": b"be nice"}),
        make_wheel("hvp-fake-part1", {"fake/x.part00": raw[:middle]}),
        make_wheel("hvp-fake-part2", {"fake/x.part01": raw[middle:]}),
    )
    head = Wheel("hvp-fake-head", "1.0", wheels[0].sha256, wheels[0].size, ())
    source = WheelGGUF((head, *wheels[1:]), hashlib.sha256(raw).hexdigest(), ("fake/TERMS.html",))
    spec = ModelSpec("fake", "llama", source, True, "Nice terms", terms_url="terms of fake")
    monkeypatch.setitem(registry.MODELS, "fake", spec)
    monkeypatch.setattr(notices, "_shown", set())
    return spec
