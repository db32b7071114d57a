"""From what was asked to a loaded model and fitting pairs, saying on the way what is done."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hvp_patching.cli.options import Asked
from hvp_patching.cli.progress import bar
from hvp_patching.models.anywhere import Located, load_located, locate, prepared_folder
from hvp_patching.models.forecast import MOST_FOR_A_PASS, forecast
from hvp_patching.models.header import read_header
from hvp_patching.models.registry import MODELS, Hub
from hvp_patching.prompts.forms import PromptPair, TokenPair
from hvp_patching.prompts.pairs_file import FileRow, PairsFile, fit_pairs, read_pairs

if TYPE_CHECKING:
    from hvp_patching.cli.run import Run

T = TypeVar("T")
Progress = Callable[[float], None]
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # one of them is there where CUDA can be


@dataclass
class Session:
    """A loaded model and the pairs that fit it; memory: bytes for one pass."""

    asked: Asked
    model: Any
    pairs: list[TokenPair]
    left_out: tuple[str, ...]
    source: PairsFile
    memory: int
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, asked: Asked) -> Session:
        """Read the pairs, plan the memory, load the model, fit the pairs; ValueError in one line.

        What costs least comes first, so that a mistake is met before anything is loaded.
        """
        source = _pairs(asked)
        one = len(source.rows) == 1
        say(f"{len(source.rows)} {'pair' if one else 'pairs'}, site {asked.site}, {asked.metric}")
        found = _prepared(locate(asked.model, asked.revision))
        memory = _planned(found, asked)
        loading = time.monotonic()
        with _quiet():
            model = load_located(found, asked.dtype, asked.device, asked.bos)
            pairs, left_out = fit_pairs(
                model, source, asked.keep_going, _metric_check(model, asked)
            )
        say(f"loaded in {time.monotonic() - loading:.1f} s")
        for line in left_out:
            say(f"left out: {line}")
        if left_out:
            say(f"{len(left_out)} of {len(left_out) + len(pairs)} pairs left out")
        return cls(asked, model, pairs, left_out, source, memory)

    def per_pair(self, label: str, measure: Callable[[TokenPair, Progress], T]) -> list[T]:
        """What `measure` gives for every pair; it reports the fraction of the pair it has done."""
        found = []
        with bar(label, len(self.pairs), "prompts") as advance, _quiet():
            for tokens in self.pairs:
                share = Share(advance)
                found.append(measure(tokens, share.tell))
                share.tell(1.0)
        return found

    def options(self) -> dict[str, Any]:
        """Site, direction and metric, as the library's functions take them."""
        asked = self.asked
        return {"site": asked.site, "direction": asked.direction, "metric": asked.metric}

    @property
    def seconds(self) -> float:
        """Since the model was loaded."""
        return time.monotonic() - self.begun

    def finish(self, run: Run) -> None:
        """Show the ranking, and write it where it was asked for."""
        from hvp_patching.cli.output import write
        from hvp_patching.cli.show import show

        show(run, self.asked.top)
        if self.asked.out is not None:
            write(run, self.asked.out)
            say(f"wrote {self.asked.out}")


class Share:
    """One prompt of the progress, which never counts for more."""

    def __init__(self, advance: Progress) -> None:
        self.advance, self.left = advance, 1.0

    def tell(self, fraction: float) -> None:
        """So much more of the prompt is done."""
        step = min(fraction, self.left)
        self.left -= step
        self.advance(step)


def say(line: str) -> None:
    """A line for the user, on stderr: the table alone goes to stdout."""
    print(" ".join(line.split()), file=sys.stderr, flush=True)


def _pairs(asked: Asked) -> PairsFile:
    if asked.pairs is not None:
        return read_pairs(asked.pairs, asked.keep_going)
    clean, corrupted, target, foil = asked.inline
    pair = PromptPair(str(clean), corrupted, str(target), "command line", foil)
    return PairsFile(None, "", (FileRow(1, pair),))


def _metric_check(model: Any, asked: Asked) -> Callable[[TokenPair], Any]:
    from hvp_patching.paths.metric import as_metric

    return lambda tokens: as_metric(asked.metric).readout(model, tokens)


def _prepared(found: Located) -> Located:
    """The model with its checkpoint: one of the registry is fetched first, and converted."""
    spec = MODELS.get(found.registered or "")
    if found.checkpoint is not None or found.in_memory or spec is None:
        return found
    place = prepared_folder(spec.name)
    if place.exists():  # load_model says what is wrong with it
        return found
    if isinstance(spec.source, Hub):
        say(f"{spec.name}: not at {place}, taking {spec.source.repo} from the Hub")
        return locate(spec.source.repo)
    from hvp_patching.models import prepare_model

    say(f"{spec.name}: not at {place} yet, preparing it there")
    prepare_model(spec.name, place, place.parent / "downloads")
    return locate(spec.name)


def _planned(found: Located, asked: Asked) -> int:
    """Bytes for a pass; refuses what will not fit, and says what is needed and there."""
    if found.checkpoint is None:
        say(f"{found.name}: {'built in memory' if found.in_memory else 'not here yet'}")
        return MOST_FOR_A_PASS
    header = read_header(found.checkpoint)
    on_gpu = _on_gpu(asked.device)
    # every checkpoint is read on the CPU, in float32
    plan = forecast(found.name, header, "float32" if on_gpu else asked.dtype)
    if on_gpu:
        plan = forecast(found.name, header, asked.dtype, "cuda", _free_on_gpu(asked.device))
    say(f"{found.name}: {plan.text()}")
    return plan.a_pass


def _on_gpu(device: str) -> bool:
    """Whether the model will lie on a GPU; torch is asked only where there may be one."""
    if device == "auto":
        if not any(Path(path).exists() for path in GPUS):
            return False
        import torch

        return torch.cuda.is_available()
    return device.startswith("cuda")


def _free_on_gpu(device: str) -> int | None:
    import torch

    try:
        return int(torch.cuda.mem_get_info("cuda" if device == "auto" else device)[0])
    except (RuntimeError, AssertionError, ValueError):
        return None  # load_model says which devices there are


@contextmanager
def _quiet() -> Iterator[None]:
    """Bars of libraries are held back, and warnings are one line each, once."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    seen: set[str] = set()

    def one(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        if issubclass(category, UserWarning) and text not in seen:
            seen.add(text)
            say(f"note: {text}")

    with warnings.catch_warnings():
        warnings.showwarning = one
        yield
