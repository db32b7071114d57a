"""Fixtures: a clean copy of the checkout, and a small Table 2 built in it once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """Exit status of a call and all that it printed."""

    status: int
    output: str

    def jobs(self) -> dict[str, int]:
        """Number of jobs by rule, from Snakemake's table; empty where nothing was to be done."""
        table = self.output.partition("Job stats:")[2].partition("\ntotal ")[0]
        return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)}

    def line(self, beginning: str) -> str:
        """The only line that begins so."""
        (found,) = {line for line in self.output.splitlines() if line.startswith(beginning)}
        return found


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository, in which Snakemake runs offline with one configuration."""

    root: Path
    config: Mapping[str, Any]
    model: ClassVar[str] = "gpt2-small"
    jets: ClassVar[str] = f"results/ranking_jets/{model}/ioi/name_swap/attn_heads.parquet"
    jets_log: ClassVar[str] = f"logs/compute_ranking_jets/{model}_ioi_name_swap_attn_heads.log"

    def command(self, *args: str, **config: Any) -> list[str]:
        """The command line; `config` overrides keys of the configuration."""
        (self.root / "test.yaml").write_text(yaml.safe_dump(_merge(self.config, config)))
        snakemake = [sys.executable, "-m", "snakemake", "--cores", "1"]
        return [*snakemake, *args, "--configfile", "test.yaml"]

    def environment(self, **variables: str) -> dict[str, str]:
        offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.root / "hub")}
        clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "COLUMNS"}}
        tools = str(Path(sys.executable).parent)
        return clean | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"} | offline | variables

    def call(self, *command: str, cwd: Path | None = None, **variables: str) -> Result:
        """Run any command in the copy, or in another folder."""
        done = subprocess.run(
            command,
            cwd=cwd or self.root,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return Result(done.returncode, done.stdout)

    def snakemake(self, *args: str, env: Mapping[str, str] | None = None, **config: Any) -> Result:
        return self.call(*self.command(*args, **config), **(env or {}))

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The repository's own files, tracked or new, and nothing computed; tests leave it clean."""
    root = tmp_path_factory.mktemp("clean") / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        source, target = ROOT / name, root / name
        if name and (source.is_file() or source.is_symlink()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return Checkout(root, {})


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 in the Hub's format, marked as standing in for gpt2-small."""
    from hvp_patching.models.tiny import build_tiny

    folder = tmp_path_factory.mktemp("local") / "gpt2"
    model, tokenizer = build_tiny("tiny-gpt2")
    model.config.hvp_stand_in_for = Checkout.model  # else its sizes are not GPT-2 Small's
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def first_run(clean: Checkout, checkpoint: Path) -> tuple[Checkout, Result]:
    """A checkout with Table 2 of one model, one task and two prompts, and what making it said.

    Then the jets of every component at all of the table's nodes, for which f(1) is there: two
    rules that stand in any order would find each other's results or not.
    """
    config = {
        "profile": "smoke",
        "models": [Checkout.model],
        "model_folders": {Checkout.model: str(checkpoint)},
        "table2": [f"{Checkout.model}/ioi"],
        "prompts": {"quick": {"ioi": 2}},
    }
    built = Checkout(clean.root.with_name("built"), config)
    shutil.copytree(clean.root, built.root, symlinks=True)
    table, jets = (built.snakemake(target) for target in ("tables/table2.tex", Checkout.jets))
    assert (table.status, jets.status) == (0, 0), table.output + jets.output
    return built, replace(table, output=table.output + jets.output)


@pytest.fixture
def built(first_run: tuple[Checkout, Result]) -> Checkout:
    """The checkout of `first_run`, for tests that change nothing in it."""
    return first_run[0]


@pytest.fixture
def fork(first_run: tuple[Checkout, Result], tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the checkout of `first_run`, to be changed."""
    copy = Checkout(tmp_path / "fork", first_run[0].config)
    shutil.copytree(first_run[0].root, copy.root, symlinks=True)
    yield copy
    shutil.rmtree(copy.root, ignore_errors=True)


@pytest.fixture
def computed() -> Callable[[Checkout], list[int]]:
    """Nodes computed for each prompt, in order, as the log of compute_ranking_jets says."""

    def read(checkout: Checkout) -> list[int]:
        return [
            int(n)
            for n in re.findall(r"(\d+) of \d+ nodes computed", checkout.text(checkout.jets_log))
        ]

    return read


def _namespace() -> list[str]:
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]


@pytest.fixture(scope="session")
def namespace() -> list[str]:
    """Command that begins a shell which may mount disks of its own; skips where there is none."""
    probe = [*_namespace(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        allowed = subprocess.run(probe, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("needs leave to mount a small disk (unshare, tmpfs)")
    return [*_namespace(), "bash", "-c"]
