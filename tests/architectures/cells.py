"""One cell of the matrix: an architecture at a site, by one backend, against the oracle."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvp_patching as hp
from hvp_patching.prompts.pair import TokenPair

from .configs import Architecture, build, tokenizer
from .naming import NoPlace, find_place
from .oracle import Derivatives, PlainPath

SITES = ("attn_heads", "mlp_pre", "mlp_post", "mlp_out", "resid_post")
BACKENDS = ("taylor", "autograd")
NODES = {0.0: 2, 0.5: 2, 1.0: 0}
ORDERS = ("f", "f'", "f''")
TOLERANCE = 1e-6  # of a derivative, or of 0.1 where it is smaller: the differences know no more
UNKNOWN = 1e-3  # an oracle less sure than this, in the same units, is none
CANDIDATES = 4  # components per layer among which the oracle chooses one that it knows well
LONGEST = 400  # characters of a refusal


@dataclass(frozen=True)
class Cell:
    """What happened: 'agrees', 'refuses' (in one line), or 'fails': a wrong number or a crash."""

    architecture: Architecture
    site: str
    backend: str
    outcome: str
    reason: str = ""
    meaning: str = ""  # the module that the oracle patched
    worst: float = 0.0  # largest disagreement, relative as in TOLERANCE
    seconds: float = 0.0


@dataclass(frozen=True)
class Expected:
    """The oracle's jets of one component per layer."""

    components: list[tuple[int, int]]
    jets: list[dict[float, Derivatives]]
    sizes: list[int]
    meaning: str


def prompt_pair() -> TokenPair:
    """18 random tokens, two of which change late: eleven can come from a prefix cache."""
    draw = random.Random(0)
    clean = [draw.randrange(300, 2000) for _ in range(18)]
    corrupted = [draw.randrange(2000, 3000) if i in {11, 14} else t for i, t in enumerate(clean)]
    return TokenPair(tuple(clean), tuple(corrupted), (17,), "matrix")


def cells(
    architecture: Architecture,
    sites: Sequence[str] = SITES,
    backends: Sequence[str] = BACKENDS,
) -> Iterator[Cell]:
    """Every cell of one architecture."""
    original, pair = build(architecture), prompt_pair()
    bridge = attempt(
        lambda: hp.from_huggingface(build(architecture, plain=False), tokenizer(), False)
    )
    for site in sites:
        expected = expectation(original, site, pair)
        meaning = expected.meaning if isinstance(expected, Expected) else ""
        for backend in backends:
            start = time.perf_counter()
            if isinstance(bridge, Exception):
                outcome, reason, worst = verdict_of_error(bridge)
            else:
                outcome, reason, worst = judge(bridge, pair, site, backend, expected)
            seconds = time.perf_counter() - start
            yield Cell(architecture, site, backend, outcome, reason, meaning, worst, seconds)


def attempt(call: Any) -> Any:
    """What `call` returns, or the exception that it raises."""
    try:
        return call()
    except Exception as error:
        return error


def verdict_of_error(error: Exception) -> tuple[str, str, float]:
    """A ValueError of one line that this package raises is a refusal; any other error a failure."""
    text = f"{type(error).__name__}: {error}"
    raised_by = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = isinstance(error, ValueError) and Path(hp.__file__).parent in Path(raised_by).parents
    if ours and "\n" not in text and len(text) <= LONGEST:
        return "refuses", str(error), 0.0
    return "fails", text[:LONGEST], 0.0


def expectation(original: Any, site: str, pair: TokenPair) -> Expected | NoPlace:
    """The oracle's jets, or why the model has no such site."""
    try:
        place = find_place(original, site)
    except NoPlace as error:
        return error
    path = PlainPath(original, place, pair.clean_ids, pair.corrupted_ids, pair.target_ids[0])
    chosen, jets = [], []
    for layer in range(place.n_layers()):
        tried = []
        for index in path.largest(layer, CANDIDATES):
            found = {t: path.derivatives(layer, index, t, order) for t, order in NODES.items()}
            tried.append((max(d.unsure for d in found.values()), index, found))
            if tried[-1][0] <= TOLERANCE:
                break
        _, index, found = min(tried, key=lambda item: item[:2])
        chosen.append((layer, index))
        jets.append(found)
    return Expected(chosen, jets, path.sizes(), place.meaning())


def judge(
    bridge: Any, pair: TokenPair, site: str, backend: str, expected: Expected | NoPlace
) -> tuple[str, str, float]:
    """Outcome, reason and largest disagreement of one cell."""

    def jets_of(components: Any, nodes: Any = NODES) -> Any:
        return attempt(
            lambda: hp.path_jets(bridge, pair, site, nodes, backend=backend, components=components)
        )

    known = isinstance(expected, Expected)
    jets = jets_of(expected.components if known else None)
    if isinstance(jets, Exception):
        return verdict_of_error(jets)
    if not known:
        return "fails", f"numbers for {len(jets.components)} components though {expected}", 0.0
    last = len(expected.sizes) - 1
    beyond = jets_of([(last, expected.sizes[last])], {0.0: 0})
    if not isinstance(beyond, ValueError):
        return "fails", f"layer {last} has a component number {expected.sizes[last]}", 0.0
    return compare(jets.values.tolist(), expected)


def compare(values: list[list[list[float]]], expected: Expected) -> tuple[str, str, float]:
    """Jets [component][node][order] against the oracle's."""
    worst, reason, agrees = 0.0, "", True
    for (layer, index), rows, jets in zip(expected.components, values, expected.jets, strict=True):
        for row, (node, known) in zip(rows, jets.items(), strict=True):
            if known.unsure > UNKNOWN:
                return "fails", f"the oracle does not know the path at {node} in layer {layer}", 0.0
            columns = zip(ORDERS, row, known.values, known.errors, strict=False)
            for name, got, want, error in columns:
                scale = max(abs(want), 0.1)
                off = abs(got - want) / scale
                if not abs(got - want) <= TOLERANCE * scale + 4 * error:  # NaN is not, either
                    agrees = False
                if not off <= worst:
                    worst = off
                    reason = (
                        f"{name}({node}) of component {index} in layer {layer}: {got:.9g}, "
                        f"oracle {want:.9g} +- {error:.1g}"
                    )
    return ("agrees", "", worst) if agrees else ("fails", reason, worst)
