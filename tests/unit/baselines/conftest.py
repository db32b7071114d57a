import random

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from hvp_patching.models import from_huggingface, load_model
from hvp_patching.models.tiny import FAMILIES, build_tokenizer
from hvp_patching.prompts.pair import TokenPair


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Tiny tensors are far slower on many threads, above all beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package", params=FAMILIES)
def model(request):
    return load_model(request.param, device="cpu")


@pytest.fixture(scope="package")
def one_model():
    return load_model("tiny-llama", device="cpu")


@pytest.fixture(scope="package", params=["mixtral", "mixtral-square"])
def experts(request):
    """Layers of experts, gated inside; square: as wide as the residual stream."""
    tokenizer = build_tokenizer("tiny-llama")
    config = MixtralConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        intermediate_size=32 if request.param == "mixtral-square" else 64,
        num_local_experts=4,
        num_experts_per_tok=2,
        vocab_size=len(tokenizer),
        experts_implementation="eager",
        **{f"{which}_token_id": tokenizer.eos_token_id for which in ("bos", "eos", "pad")},
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.config.architectures = [type(model).__name__]
    return from_huggingface(model.double().eval(), tokenizer, False)


@pytest.fixture(scope="session")
def pair():
    """Nine tokens of which the third and the fifth differ; every tiny vocabulary has these ids."""
    draw = random.Random(4)
    clean = [draw.randrange(10, 90) for _ in range(9)]
    corrupted = list(clean)
    corrupted[2], corrupted[4] = 91, 92
    return TokenPair(tuple(clean), tuple(corrupted), (17,), "tokens-0")
