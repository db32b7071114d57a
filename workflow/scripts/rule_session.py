"""What every script of the workflow shares: one log file, one readable line on failure."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pandas as pd
    from tqdm import tqdm

    from hvp_patching.checking import Check
    from hvp_patching.environments import Environment
    from hvp_patching.measuring.measurement import Measurement
    from hvp_patching.store import Store

# The library of this checkout, whatever else may be installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

SECONDS_PER_LINE = 30

# What this process, which runs one rule, opened and read: its outputs stand on that.
STORES: list[Store] = []
ENVIRONMENTS: set[Environment] = set()


class Lines:
    """A stream for pipes and files: what a bar redraws in place becomes a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        for line in re.split(r"[\r\n]+", text):
            if line.strip():
                self.stream.write(f"{line.rstrip()}\n")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False


TERMINAL: Any = sys.stderr if sys.stderr.isatty() else Lines(sys.stderr)


def run(
    snakemake: Any, main: Callable[[], None], show: bool = False, own_log: bool = False
) -> None:
    """Call `main` with everything it prints in the rule's log; on failure exit with one line.

    `show` leaves stderr on the terminal, for rules whose own bars and notices the user must see;
    `own_log` says that `main` writes the log itself.
    """
    _tame_bars(hidden=not show)
    _limit_threads(snakemake.threads)
    with _log_file(os.devnull if own_log else snakemake.log[0]) as log:
        try:
            stderr = TERMINAL if show else log
            with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(log):
                _log_to(log)
                main()
                _record_outputs(snakemake)
                _report_stores(snakemake.rule)
        except Exception as error:
            with contextlib.suppress(OSError):
                traceback.print_exc(file=log)
            TERMINAL.write(f"\n{snakemake.rule}: {explain(error, snakemake.log[0])}\n")
            TERMINAL.flush()
            raise SystemExit(1) from None


def explain(error: Exception, log: str) -> str:
    """One line for the terminal: what happened and what to do."""
    text = " ".join(str(error).split())
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    if isinstance(error, ValueError):
        return text
    if full or "No space left on device" in text:
        return "the disk is full; free some space and run the same command again"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; lower engine.memory_gb in the config and run the same command again"
    return f"{type(error).__name__}: {text[:300]} (traceback in {log})"


@contextmanager
def _log_file(path: str) -> Iterator[TextIO]:
    """The rule's log; a disk too full to write it must not hide why the rule failed."""
    log = open(path, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
    try:
        yield log
    finally:
        with contextlib.suppress(OSError):
            log.close()


def _log_to(log: TextIO) -> None:
    logging.basicConfig(
        stream=log, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.raiseExceptions = False  # on a full disk the rule's own write says so
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _tame_bars(hidden: bool) -> None:
    """Defaults of the bars that libraries draw: none into logs, few lines into a pipe."""
    if hidden:
        os.environ["TQDM_DISABLE"] = "1"
    elif not TERMINAL.isatty():
        os.environ["TQDM_MININTERVAL"] = os.environ["TQDM_MAXINTERVAL"] = str(SECONDS_PER_LINE)


def _limit_threads(n: int) -> None:
    """Let torch, once it is imported, use the threads that Snakemake granted this rule."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(max(1, n))


def progress(label: str, total: int, unit: str = "prompts") -> tqdm:
    """A progress bar with time left on the terminal, in units of prompts or others."""
    from tqdm import tqdm

    live = TERMINAL.isatty()
    bar = f"{{desc}}: {{percentage:3.0f}}%|{{bar:20}}| {{n:.1f}}/{{total}} {unit} "
    bar += "[{elapsed}<{remaining}]"
    line = f"{{desc}}: {{n:.1f}} of {{total}} {unit}, {{elapsed}} gone, {{remaining}} left"
    interval = 1 if live else SECONDS_PER_LINE
    return tqdm(
        total=total,
        desc=label,
        file=TERMINAL,
        mininterval=interval,
        maxinterval=interval,
        bar_format=bar if live else line,
        disable=False,
    )


def setting_label(wildcards: Any) -> str:
    """'model/task' of a rule's wildcards, for bars and messages."""
    return f"{wildcards.model}/{wildcards.task}"


def prompt_counts(snakemake: Any) -> dict[str, dict[str, int]]:
    """How many prompts each setting of an artefact has for each need, by its prompt list."""
    import pandas as pd

    asked, paths = snakemake.params.prompts, snakemake.input.prompt_lists
    there = [len(pd.read_parquet(path, columns=["prompt_id"])) for path in paths]
    return {
        name: {need: min(n, most) for need, n in asked[name].items()}
        for name, most in zip(dict.fromkeys(snakemake.params.settings), there, strict=True)
    }


def open_store(path: str | Path) -> Store:
    """The store; what it noticed is one line at the rule's end, on the terminal too."""
    from hvp_patching.store import Store

    STORES.append(Store(path))
    return STORES[-1]


def _record_outputs(snakemake: Any) -> None:
    """Note what was written, for `hvp-patching verify`."""
    from hvp_patching.verification.manifest import record

    record(getattr(snakemake, "output", ()), snakemake.rule)


def _report_stores(rule: str) -> None:
    for report in filter(None, (store.report() for store in STORES)):
        logging.warning(report)
        TERMINAL.write(f"\n{rule}: {report}\n")
        TERMINAL.flush()


@contextmanager
def measuring(snakemake: Any, verb: str, passes: float = 1) -> Iterator[Measurement]:
    """What a rule measures on, with its check, and its bar that counts a prompt `passes` times.

    passes: 0.5 for a rule that takes one half of the prompts. Fields that the rule does not
    have keep their defaults; its `n_prompts` are the first ones.
    """
    from hvp_patching.measuring.measurement import Measurement

    wildcards, params, resources = snakemake.wildcards, snakemake.params, snakemake.resources
    options = {name: params.get(name) for name in ("dtype", "direction", "backend")}
    options |= {"site": wildcards.get("site"), "memory": resources.get("rows_mib", 0) * 2**20}
    options = {name: value for name, value in options.items() if value}
    folder = Path(snakemake.input.model).parent
    files = (wildcards.model, folder, resources.device, snakemake.input.prompts)
    measurement = Measurement.of_files(*files, **options)
    measurement.prompts = measurement.prompts[: params.get("n_prompts")]
    bar = progress(f"{verb} {setting_label(wildcards)}", round(len(measurement.prompts) * passes))
    with bar, checking(snakemake) as measurement.check:
        measurement.progress = bar.update
        yield measurement


@contextmanager
def checking(snakemake: Any) -> Iterator[Check]:
    """The rule's check: as much of it as HVP_CHECK or the config's `check` asks for."""
    from hvp_patching.checking import Check, chosen_level

    check = Check(chosen_level(snakemake.resources.check))
    yield check
    if check.on:
        logging.info(check.summary())


def note_model(model: Any) -> None:
    """Count the model's environment among those that the rule's numbers come from."""
    from hvp_patching.models.environment import current_environment

    ENVIRONMENTS.add(current_environment(model))


def note_files(*paths: str | Path) -> None:
    """Count the environments of these files among those that the rule's numbers come from."""
    from hvp_patching.environments import file_environments

    ENVIRONMENTS.update(file_environments(paths))


def environments(*paths: str | Path) -> set[Environment]:
    """Where the numbers of this rule come from: all that it read or computed, and these files."""
    from hvp_patching.environments import file_environments

    used = (store.environments for store in STORES)
    return ENVIRONMENTS.union(file_environments(paths), *used)


def environments_line(*paths: str | Path) -> str:
    """Those environments in one line, for a notebook's parameters."""
    from hvp_patching.environments import describe

    return describe(environments(*paths))


def read_table(path: str | Path) -> pd.DataFrame:
    """A parquet file; its environments become those of whatever this rule saves."""
    import pandas as pd

    from hvp_patching.environments import environments_of

    frame = pd.read_parquet(path)
    ENVIRONMENTS.update(environments_of(frame))
    return frame


def save_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a parquet file whole or not at all, with the environments behind its numbers."""
    from hvp_patching.environments import with_environments
    from hvp_patching.files import write_table

    write_table(path, with_environments(frame, environments()))
