import random

import pytest
import torch

from hvp_patching.models import load_model
from hvp_patching.models.tiny import FAMILIES
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


@pytest.fixture(scope="session")
def pair():
    """Nine tokens of which the third and the fifth differ; every tiny vocabulary has these ids."""
    draw = random.Random(4)
    clean = [draw.randrange(10, 90) for _ in range(9)]
    corrupted = list(clean)
    corrupted[2], corrupted[4] = 91, 92
    return TokenPair(tuple(clean), tuple(corrupted), (17,), "tokens-0")
