"""Five tiny seeded models of the paper's families: the real architectures, random weights.

They exist so that every test runs without a download; no result is ever computed on them.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from hvp_patching.models.errors import ModelError

# Wide enough that curvature shows and the softmaxes are neither flat nor saturated.
MATRIX_STD = 0.25
BIAS_STD = 0.2
NORM_STD = 0.2

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}
GROUPED: dict[str, Any] = {**COMMON, "num_key_value_heads": 2}
GROUPS_OF_TWO, SINGLE_DIGITS = r" ?[0-9]{1,2}", r"[0-9]"
END_OF_TEXT = ("<|endoftext|>", "<|endoftext|>")


@dataclass(frozen=True)
class Family:
    """A configuration class with its settings, how digits are split, and (BOS, EOS)."""

    config: Callable[..., PreTrainedConfig]
    settings: dict[str, Any]
    digits: str
    ends: tuple[str, str]


FAMILIES = {
    "tiny-gpt2": Family(
        GPT2Config,
        {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_inner": 128, "n_positions": 256},
        GROUPS_OF_TWO,
        END_OF_TEXT,
    ),
    "tiny-pythia": Family(
        GPTNeoXConfig,
        {**COMMON, "intermediate_size": 128, "use_parallel_residual": True, "rotary_pct": 0.25},
        GROUPS_OF_TWO,
        END_OF_TEXT,
    ),
    "tiny-qwen2": Family(
        Qwen2Config, {**GROUPED, "tie_word_embeddings": True}, SINGLE_DIGITS, END_OF_TEXT
    ),
    # Soft caps of the order of the scores and a window shorter than any prompt: both must bite.
    "tiny-gemma2": Family(
        Gemma2Config,
        {
            **GROUPED,
            "num_hidden_layers": 4,
            "head_dim": 12,
            "query_pre_attn_scalar": 12,
            "sliding_window": 8,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 6.0,
        },
        SINGLE_DIGITS,
        ("<bos>", "<eos>"),
    ),
    "tiny-llama": Family(
        LlamaConfig, GROUPED, SINGLE_DIGITS, ("<|begin_of_text|>", "<|end_of_text|>")
    ),
}


def prompts_folder() -> Path:
    """The repository's data/prompts, or the folder that HVP_PATCHING_DATA names."""
    override = os.environ.get("HVP_PATCHING_DATA")
    folder = Path(override) if override else Path(__file__).resolve().parents[3] / "data/prompts"
    if not folder.is_dir():
        raise ModelError(
            f"no prompt files at {folder}: the tiny models' tokenizer is trained on them; "
            "run from a clone of the repository or set HVP_PATCHING_DATA to its data/prompts"
        )
    return folder


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
    else:
        yield str(value)


# Tasks whose words are no tokens of their own here, so that they change no tiny model.
SPELT_OUT = frozenset({"arithmetic_addition", "mcqa"})


def _texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.stem in SPELT_OUT:
            continue
        if path.suffix in {".yaml", ".yml"}:
            yield from _strings(yaml.safe_load(path.read_text(encoding="utf-8")))
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as lines:
                yield from _strings(list(csv.reader(lines)))


def _words(folder: Path) -> list[str]:
    """Every word of the prompt files, alone and after a space, and the two-digit numbers."""
    splitter = pre_tokenizers.Split(Regex(r"\P{L}+"), "removed")
    found = {word for text in _texts(folder) for word, _ in splitter.pre_tokenize_str(text)}
    if not found:
        raise ModelError(f"no .yaml or .csv prompt file in {folder}: nothing to train on")
    numbers = {f"{number:02d}" for number in range(100)}
    return [prefix + word for word in sorted(found | numbers) for prefix in ("", " ")]


def build_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every word of the prompt files is one token.

    GPT-2 and Pythia split digits in twos from the left (1732 is 17|32), the others one by one.
    Training is deterministic: sorted words, one occurrence each.
    """
    digits, (bos, eos) = FAMILIES[name].digits, FAMILIES[name].ends
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(digits), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1_000_000,  # never reached: merging ends when every word is one token
        min_frequency=1,
        special_tokens=list(dict.fromkeys((bos, eos))),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_words(prompts_folder()), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=eos
    )


def _fill(name: str, seed: int, model: PreTrainedModel) -> None:
    """Uniform draws, one stream per parameter.

    Uniform because its arithmetic is exact: the same bits on every processor and thread count.
    """
    gemma = name == "tiny-gemma2"  # its norms multiply by 1 + weight
    for key, parameter in model.named_parameters():
        digest = hashlib.sha256(f"{name}/{seed}/{key}".encode()).digest()
        draws = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        norm = parameter.ndim == 1 and not key.endswith("bias")
        std = NORM_STD if norm else BIAS_STD if parameter.ndim == 1 else MATRIX_STD
        values = draws.uniform(-1.0, 1.0, tuple(parameter.shape)) * (3**0.5 * std)
        centre = 1.0 if norm and not gemma else 0.0
        parameter.data.copy_(torch.from_numpy((centre + values).astype(np.float32)))


def build_tiny(name: str, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The tiny model and its tokenizer, the same to the bit for the same seed and prompt files."""
    tokenizer = build_tokenizer(name)
    vocab = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = FAMILIES[name].config(**FAMILIES[name].settings, **vocab)
    with torch.random.fork_rng(devices=[]):  # the classes draw weights that _fill replaces
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, attn_implementation="eager"
        ).float()
    _fill(name, seed, model)
    return model.train(False), tokenizer
