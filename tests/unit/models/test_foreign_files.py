"""A checkpoint folder of someone else: absurd sizes, damaged headers, code. One line each."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hvp_patching.models import ModelError, checkpoint, content, load_model, prepare_model
from hvp_patching.models.checkpoint import check_folder, read_tokenizer
from hvp_patching.models.plausible import check_plausible
from hvp_patching.models.registry import get_spec
from hvp_patching.models.tiny import build_tiny

SECONDS = 10  # for a refusal, on a busy machine
WEIGHTS = "model.safetensors"


def save_tiny(name: str, folder: Path) -> Path:
    model, tokenizer = build_tiny(name)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("tiny-llama", tmp_path_factory.mktemp("saved") / "llama")


@pytest.fixture
def llama(saved: Path, tmp_path: Path) -> Path:
    """tiny-llama in the Hub's format, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "llama"))


def refused(folder: Path) -> str:
    """The one line that the folder's check ends in, soon."""
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        check_folder(get_spec("tiny-llama"), folder)
    assert time.process_time() - start < SECONDS
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert str(folder) in message
    return message


def said(call: Callable[[], object]) -> str:
    """The ModelError's message, "" where there is none; anything else passes."""
    try:
        call()
    except ModelError as error:
        return str(error)
    return ""


def configured(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


ABSURD = {
    "layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000 in "),
    "experts": ({"num_local_experts": 10**9}, "num_local_experts is 1000000000 in "),
    "nested": ({"text_config": {"n_layer": 10**12}}, "n_layer is 1000000000000 in "),
    "vocabulary": ({"vocab_size": 10**9}, "asks for 3.2e+10 weights (vocabulary × width)"),
    "width": ({"hidden_size": 10**9}, "weights (vocabulary × width)"),
    "MLP": ({"intermediate_size": 10**9}, "weights (layers × width × MLP)"),
    "heads": ({"head_dim": 10**9}, "weights (layers × width × heads × their width)"),
    "positions": ({"n_positions": 10**9}, "weights (positions × width)"),
}


@pytest.mark.parametrize(("changes", "words"), ABSURD.values(), ids=ABSURD)
def test_absurd_sizes_are_refused_before_anything_is_built(
    llama: Path, changes: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configuration classes make lists of as many names as there are layers."""

    def build(*_: object, **__: object) -> None:
        raise AssertionError("a configuration was built")

    monkeypatch.setattr(checkpoint.AutoConfig, "from_pretrained", build)
    message = refused(configured(llama, **changes))
    assert words in message
    assert "the file is damaged or of another model, fetch it again" in message


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-gemma2", "tiny-pythia", "tiny-qwen2"])
def test_real_configurations_are_plausible(name: str, tmp_path: Path) -> None:
    check_folder(get_spec(name), save_tiny(name, tmp_path / name))


def test_the_papers_models_are_plausible() -> None:
    """Llama-3.1-8B by its configuration and a fortieth of its weights; tied, shared or not."""
    config = {
        **{"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336},
        **{"num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 131072},
    }
    check_plausible("x", "y", config, {f"w{i}": (14336, 4096) for i in range(4)})
    odd = {"vocab_size": "many", "hidden_size": None, "num_hidden_layers": True, "n_layer": 2.5}
    check_plausible("x", "y", odd, {})


JSON = {
    "not JSON": "nonsense",
    "cut": '{"model_type": "llama"',
    "no object": "[1, 2]",
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 50_000,
    "long number": '{"num_hidden_layers": ' + "9" * 5000 + "}",
    "NaN": '{"model_type": "llama", "num_hidden_layers": NaN}',
    "texts for numbers": '{"model_type": "llama", "num_hidden_layers": "three"}',
    "lists for numbers": '{"model_type": "llama", "hidden_size": [1, 2]}',
    "no type": "{}",
    "unknown type": '{"model_type": "lama"}',
    "odd type": '{"model_type": ["llama"]}',
    "quantised": '{"model_type": "llama", "quantization_config": {"quant_method": ["a"]}}',
    "a number for an object": '{"model_type": "llama", "rope_parameters": 3}',
}


@pytest.mark.parametrize("text", JSON.values(), ids=JSON)
def test_a_config_of_nonsense_is_one_line(llama: Path, text: str) -> None:
    (llama / "config.json").write_text(text)
    refused(llama)


def test_a_huge_config_is_not_read(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "LARGEST_JSON", 100)
    assert "config.json has more than 100 bytes; fetch it again" in refused(llama)


def tensors(header: object, data: bytes = bytes(64)) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


SAFETENSORS = {
    "empty": b"",
    "short": b"\1\2\3",
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "header beyond the file": struct.pack("<Q", 10**7) + b"{}",
    "header of all bits": b"\xff" * 64,
    "no JSON": tensors(b"nonsense"),
    "no UTF-8": tensors(b'{"\xff\xfe": 1}'),
    "deep": tensors(b"[" * 100_000),
    "no object": tensors([1, 2]),
    "no offsets": tensors({"a": {"dtype": "F32", "shape": [16]}}),
    "beyond the file": tensors({"a": entry("F32", [32], 0, 128)}),
    "far beyond the file": tensors({"a": entry("F32", [16], 2**63, 2**63 + 64)}),
    "overlapping": tensors({"a": entry("F32", [16], 0, 64), "b": entry("F32", [16], 0, 64)}),
    "half overlapping": tensors({"a": entry("F32", [8], 0, 32), "b": entry("F32", [8], 16, 48)}),
    "a hole": tensors({"a": entry("F32", [4], 0, 16), "b": entry("F32", [4], 48, 64)}),
    "backwards": tensors({"a": entry("F32", [16], 64, 0)}),
    "negative": tensors({"a": entry("F32", [16], -64, 0)}),
    "shape of another size": tensors({"a": entry("F32", [3], 0, 64)}),
    "shape that overflows": tensors({"a": entry("F32", [2**62, 4], 0, 64)}),
    "negative shape": tensors({"a": entry("F32", [-16], 0, 64)}),
    "unknown dtype": tensors({"a": entry("F31", [16], 0, 64)}),
    "whole numbers": tensors({"a": entry("I64", [8], 0, 64)}),
    "bytes left over": tensors({"a": entry("F32", [8], 0, 32)}),
    "metadata of numbers": tensors({"__metadata__": {"a": 1}, "a": entry("F32", [16], 0, 64)}),
    "a pickle": pickle.dumps({"a": 1}) * 10,
    "a pickle with a header's length": tensors(pickle.dumps({"a": 1})),
}


@pytest.mark.parametrize("raw", SAFETENSORS.values(), ids=SAFETENSORS)
def test_damaged_headers_of_weights_are_one_line(llama: Path, raw: bytes) -> None:
    (llama / WEIGHTS).write_bytes(raw)
    assert WEIGHTS in refused(llama)


def test_mutated_headers_of_weights_are_one_line_or_another_model(llama: Path) -> None:
    """safetensors' own reader holds offsets to the file; what passes it is a whole file."""
    raw, draw = (llama / WEIGHTS).read_bytes(), random.Random(3)
    length = 8 + int.from_bytes(raw[:8], "little")
    for _ in range(200):
        mutant = bytearray(raw)
        for _ in range(draw.choice((1, 2, 4))):
            mutant[draw.randrange(length)] = draw.choice(b'0123456789{}[]",:-\0\xff ')
        (llama / WEIGHTS).write_bytes(mutant)
        assert "\n" not in said(lambda: check_folder(get_spec("tiny-llama"), llama))


def test_a_shard_of_another_folder_is_not_followed(llama: Path, saved: Path) -> None:
    (llama / WEIGHTS).unlink()
    for name in (f"../{saved.name}/{WEIGHTS}", str(saved / WEIGHTS), "model.bin", "", 3, None):
        index = {"weight_map": {"model.norm.weight": name}}
        (llama / "model.safetensors.index.json").write_text(json.dumps(index))
        assert "must name *.safetensors files of the same folder" in refused(llama)


TOKENIZERS = {
    "not JSON": "nonsense",
    "cut": '{"version": "1.0", "model"',
    "empty": "",
    "no object": "[]",
    "deep": "[" * 100_000,
    "no model": '{"version": "1.0"}',
    "unknown model": '{"version": "1.0", "model": {"type": "Magic"}}',
    "vocabulary of texts": '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": "b"}}}',
    "huge ids": '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 1e30}, "merges": []}}',
}


@pytest.mark.parametrize("text", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_tokenizer_that_is_none_is_one_line(llama: Path, text: str) -> None:
    (llama / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        read_tokenizer("tiny-llama", llama)
    message = str(caught.value)
    assert message.startswith(f"tiny-llama: cannot read the tokenizer in {llama}: ")
    assert "\n" not in message


def test_mutated_tokenizers_are_one_line_or_read(llama: Path) -> None:
    path, draw = llama / "tokenizer.json", random.Random(4)
    whole = path.read_text(encoding="utf-8")
    state = json.loads(whole)
    for _ in range(60):
        broken = json.loads(whole)
        key = draw.choice([key for key, value in state.items() if value is not None])
        broken[key] = draw.choice([None, 3, "x", [], {}, [{}], {"type": "x"}, [[1]], {"id": -1}])
        if draw.random() < 0.3:
            broken["model"][draw.choice(list(state["model"]))] = draw.choice([None, {}, [1], "x"])
        path.write_text(json.dumps(broken))
        assert "\n" not in said(lambda: read_tokenizer("tiny-llama", llama))


CODE = """
from pathlib import Path
Path({sentinel!r}).write_text("run")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig): pass
class Model(LlamaForCausalLM): pass
class Tokenizer(PreTrainedTokenizerFast): pass
"""
AUTO_MAP = {
    "AutoConfig": "code.Config",
    "AutoModelForCausalLM": "code.Model",
    "AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"],
}


@pytest.fixture
def with_code(llama: Path, tmp_path: Path) -> Callable[[], bool]:
    """Put code into the folder that its files point to; says whether it was run."""
    sentinel = tmp_path / "sentinel"
    (llama / "code.py").write_text(CODE.format(sentinel=str(sentinel)))
    configured(llama, auto_map=AUTO_MAP)
    path = llama / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": AUTO_MAP}))
    return sentinel.exists


def test_code_of_a_checkpoint_is_never_run(
    llama: Path, with_code: Callable[[], bool], tmp_path: Path
) -> None:
    model = load_model("tiny-llama", folder=llama, device="cpu")
    assert type(model.original_model).__module__.startswith("transformers.")
    prepare_model("tiny-llama", tmp_path / "m", tmp_path, local_folder=llama)
    configured(llama, model_type="llama_of_their_own")
    refused(llama)
    assert not with_code()
