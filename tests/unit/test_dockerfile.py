"""The Dockerfile installs what the lock says, by the Makefile's own words, and nothing beside it.

It is read here; building it takes Docker and a network.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.M)).splitlines()


def of(instruction: str) -> list[str]:
    return [
        line.removeprefix(instruction).strip() for line in LINES if line.startswith(instruction)
    ]


def test_python_is_the_one_that_the_lock_is_for():
    (base,) = of("FROM")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["python_version"]
    assert base.startswith(f"python:{wanted}-")
    assert f"python={wanted}" in (ROOT / "environment.yml").read_text()


def test_it_installs_by_the_makefile_alone():
    runs = of("RUN")
    assert [run for run in runs if "make install PYTHON=" in run]
    assert not [run for run in runs if re.search(r"\bpip3? |conda|curl|wget", run)]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements.lock" in makefile.partition("\ninstall:")[2]


def test_it_runs_as_no_root_and_starts_the_workflow():
    assert of("USER") == ["1000:1000"]
    (command,) = of("CMD")
    assert "/opt/hvp-patching/Snakefile" in command
    assert (ROOT / "Snakefile").is_file()


def test_what_is_computed_stays_out_of_the_image():
    kept_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    ignored = re.findall(r"^/?([\w.]+(?:/\w+)?)/?\*?$", (ROOT / ".gitignore").read_text(), re.M)
    missing = {name.strip("/") for name in ignored} - {
        name.removeprefix("**/").removeprefix("*.") for name in kept_out
    }
    assert missing <= {".benchmarks", "__pycache__", "egg-info"}
