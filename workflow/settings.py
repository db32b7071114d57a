"""What the configuration asks for: counts, settings and source files, without importing torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

ROOT = Path(__file__).resolve().parents[1]
SOURCES = Path("src") / "hvp_patching"
SCHEMA = Path(__file__).resolve().parent / "schemas" / "config.schema.yaml"


def check_config(config: dict[str, Any]) -> None:
    """Validate the configuration; WorkflowError in one line that names the key."""
    try:
        validate(config, str(SCHEMA))
    except WorkflowError as error:
        raise WorkflowError(f"config: {_summary(error)}") from None
    for setting in config["table2"]:
        task = setting.split("/")[1]
        if task not in config["corruptions"]:
            known = ", ".join(config["corruptions"])
            raise WorkflowError(f"config: table2 names the unknown task '{task}'; known: {known}")


def _summary(error: WorkflowError) -> str:
    """The first line of a jsonschema error and the place it speaks of."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = next((line for line in lines if "ValidationError" in line), lines[-1])
    place = re.search(r"On instance((?:\[[^\]]+\])+):", text)
    where = f" in config{place.group(1)}" if place else ""
    return f"{first.split('ValidationError:')[-1].strip()}{where}; see {SCHEMA.name} for the keys"


def n_prompts(config: Mapping[str, Any], model: str, task: str) -> int:
    """Prompt pairs of one setting at the configured effort; 'model/task' before 'task'."""
    counts = config["prompts"][config["effort"]]
    for key in (f"{model}/{task}", task):
        if key in counts:
            return int(counts[key])
    raise WorkflowError(
        f"config: prompts.{config['effort']} has no count for the task '{task}'; "
        f"add '{task}: N' there"
    )


def table2_settings(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(model, task, corruption) of every row of Table 2."""
    pairs = [setting.split("/") for setting in config["table2"]]
    return [(model, task, config["corruptions"][task]) for model, task in pairs]


def sources(*names: str) -> list[str]:
    """Modules of the library as inputs of the rules that use them: 'metrics/*', 'sites', ….

    Snakemake does not see imported packages, so each rule names what it imports.
    """
    found: list[str] = []
    for name in names:
        matches = sorted((ROOT / SOURCES).glob(f"{name}.py"))
        if not matches:
            raise WorkflowError(f"no module matches {SOURCES / name}.py")
        found += [str(path.relative_to(ROOT)) for path in matches]
    return found
