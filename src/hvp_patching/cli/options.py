"""The options that commands share, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

SITES = "attn_heads, mlp_pre, mlp_post, mlp_out, resid_post"
METRICS = ("logprob", "logit_difference")
DIRECTIONS = ("noising", "denoising")
ENDINGS = (".json", ".csv", ".html")

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A registry id (see `hvp-patching models`), a local folder, a Hub repository, or a "
        "TransformerLens name.",
    ),
]
Revision = Annotated[
    str | None, typer.Option(metavar="COMMIT", help="Of a Hub repository; its branch main else.")
]
Bos = Annotated[
    bool | None,
    typer.Option(
        "--bos/--no-bos",
        help="Whether prompts begin with a BOS token, for a model outside the registry; as its "
        "tokenizer does it else.",
        show_default=False,
    ),
]
Pairs = Annotated[
    Path | None,
    typer.Option(
        "--pairs",
        "-p",
        metavar="FILE",
        help="Prompt pairs: .csv or .jsonl with clean, corrupted, target and, if wanted, foil.",
    ),
]
Clean = Annotated[str | None, typer.Option(metavar="TEXT", help="One pair, instead of --pairs.")]
Corrupted = Annotated[str | None, typer.Option(metavar="TEXT", help="Its corrupted text.")]
Target = Annotated[
    str | None, typer.Option(metavar="TOKEN", help="Its target, with its leading space: ' Mary'.")
]
Foil = Annotated[
    str | None, typer.Option(metavar="TOKEN", help="Its foil, for --metric logit_difference.")
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", "-k", help="Leave bad pairs out and say how many.")
]
SiteName = Annotated[
    str, typer.Option("--site", "-s", metavar="SITE", help=f"What is patched: {SITES}.")
]
MetricName = Annotated[
    str, typer.Option("--metric", metavar="METRIC", help=f"What is read: {' or '.join(METRICS)}.")
]
Direction = Annotated[
    str,
    typer.Option(
        metavar="DIRECTION",
        help="noising patches the corrupted run into the clean one, denoising the other way.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", "-d", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
]
Dtype = Annotated[str, typer.Option(metavar="DTYPE", help="float32 or float64.")]
Top = Annotated[int, typer.Option("--top", "-n", min=1, help="Rows of the table shown here.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FILE", help="Write all components to a .json, .csv or .html file."
    ),
]


@dataclass(frozen=True)
class Asked:
    """What a command that runs a model was asked for; errors are ValueErrors of one line."""

    command: str
    model: str
    revision: str | None
    bos: bool | None
    pairs: Path | None
    inline: tuple[str | None, str | None, str | None, str | None]  # clean, corrupted, target, foil
    keep_going: bool
    site: str
    metric: str
    direction: str
    device: str
    dtype: str
    top: int
    out: Path | None

    def __post_init__(self) -> None:
        from hvp_patching.places import get_site

        get_site(self.site)
        _one_of("metric", self.metric, METRICS)
        _one_of("direction", self.direction, DIRECTIONS)
        self._check_pairs()
        self._check_out()

    def _check_pairs(self) -> None:
        given = [value is not None for value in self.inline]
        if self.pairs is not None and any(given):
            raise ValueError("both --pairs and a pair on the command line are given; leave one out")
        if self.pairs is None and not all(given[:3]):
            raise ValueError("give --pairs FILE, or one pair by --clean, --corrupted and --target")

    def _check_out(self) -> None:
        """Before hours of computing rather than after."""
        if self.out is None:
            return
        if self.out.suffix.lower() not in ENDINGS:
            raise ValueError(f"--out {self.out}: results are written as {', '.join(ENDINGS)}")
        if self.out.is_dir():
            raise ValueError(f"--out {self.out} is a folder; name a file")
        if self.pairs is not None and self.out.resolve() == self.pairs.resolve():
            raise ValueError(f"--out {self.out} is the file of pairs; name another")
        from hvp_patching.cli.output import check_place

        check_place(self.out)


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; choose {' or '.join(known)}")
