"""What the configuration asks for: counts, settings, artefacts and source files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = Path("src") / "hvp_patching"
# One module per baseline: their names are known without importing torch.
BASELINE_MODULES = sorted(path.stem for path in (ROOT / SOURCES / "baselines").glob("[!_]*.py"))
TABLES = (1, 2, 5)


def artefacts() -> list[str]:
    """Every table and figure that the configuration can make."""
    return [f"tables/table{number}.tex" for number in TABLES]


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


def table2_files(config: Mapping[str, Any], pattern: str) -> list[str]:
    """One file of the path grammar per row of Table 2."""
    pairs = [setting.split("/") for setting in config["table2"]]
    return [
        pattern.format(model=model, task=task, corruption=config["corruptions"][task])
        for model, task in pairs
    ]


def sources(*names: str) -> list[str]:
    """Modules of the library as inputs of the rules that use them: 'metrics/*', 'sites', ….

    Snakemake does not see imported packages, so each rule names what its numbers depend on.
    """
    found: list[str] = []
    for name in names:
        matches = sorted((ROOT / SOURCES).glob(f"{name}.py"))
        if not matches:
            raise WorkflowError(f"no module matches {SOURCES / name}.py")
        found += [str(path.relative_to(ROOT)) for path in matches]
    return found


def prompt_sources(task: str) -> list[str]:
    """Modules that make the prompts of one task; a new task touches no other task's prompts."""
    from hvp_patching.prompts.registry import get_task

    try:
        get_task(task)
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    shared = ("corruptions", "data_files", "pair", "seeded", "task", "validation")
    return sources(*(f"prompts/{name}" for name in (*shared, task)))


def model_source(model: str) -> str:
    """Where the registry says that a model comes from; another model's entry is not part of it."""
    from hvp_patching.models.registry import get_spec

    try:
        return repr(get_spec(model).source)
    except ValueError as error:
        raise WorkflowError(str(error)) from None
