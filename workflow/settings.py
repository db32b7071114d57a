"""What the configuration asks for: counts, settings, artefacts and source files."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = Path("src") / "hvp_patching"
# One module per baseline: their names are known without importing torch.
BASELINE_MODULES = sorted(path.stem for path in (ROOT / SOURCES / "baselines").glob("[!_]*.py"))


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


def setting(config: Mapping[str, Any], name: str) -> dict[str, str]:
    """Wildcards of 'model/task', which has the task's usual corruption, or 'model/task/other'."""
    model, task, *other = name.split("/")
    return {
        "model": model,
        "task": task,
        "corruption": other[0] if other else config["corruptions"][task],
    }


def setting_files(
    config: Mapping[str, Any], names: Iterable[str], pattern: str, **wildcards: str
) -> list[str]:
    """One file of the path grammar per setting."""
    return [pattern.format(**setting(config, name), **wildcards) for name in names]


def estimators(config: Mapping[str, Any], wildcards: Any) -> list[str]:
    """Table 2's estimators for its own settings, `site_estimators` for all other jets."""
    return config["estimators" if _in_table2(config, wildcards) else "site_estimators"]


def baselines(config: Mapping[str, Any], wildcards: Any) -> list[str]:
    """Baselines scored in one setting: Table 2's, and Table 3's at its site."""
    names = list(config["baselines"]) if _in_table2(config, wildcards) else []
    if _usual(config, wildcards) in config["component_settings"]:
        names += config["site_baselines"][wildcards.site]
    return list(dict.fromkeys(names))


def neurons_per_layer(config: Mapping[str, Any], wildcards: Any) -> int | None:
    """How many of a layer's components are measured; None for all of them."""
    if wildcards.site in ("mlp_pre", "mlp_post"):
        return int(config["neurons_per_layer"][config["effort"]])
    return None


def _usual(config: Mapping[str, Any], wildcards: Any) -> str:
    """'model/task' where the corruption is the task's usual one, '' otherwise."""
    usual = config["corruptions"].get(wildcards.task) == wildcards.corruption
    return f"{wildcards.model}/{wildcards.task}" if usual else ""


def _in_table2(config: Mapping[str, Any], wildcards: Any) -> bool:
    return wildcards.site == "attn_heads" and _usual(config, wildcards) in config["table2"]


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


def import_closure(*names: str) -> list[str]:
    """Files of the named modules ('reporting/table3') and of every library module they import."""
    found: dict[str, None] = {}
    todo = [SOURCES / f"{name}.py" for name in names]
    while todo:
        path = todo.pop()
        if str(path) not in found:
            found[str(path)] = None
            todo += _imported(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    return sorted(found)


def notebook_closure(notebook: str) -> list[str]:
    """A notebook and every library module that its cells import, directly or not."""
    cells = json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    modules = [path.relative_to(SOURCES).with_suffix("") for path in _imported(ast.parse(code))]
    return [notebook, *import_closure(*map(str, modules))]


def _imported(tree: ast.AST) -> list[Path]:
    """Library files that a module imports; a package stands for its __init__."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    paths = [
        SOURCES.joinpath(*name.split(".")[1:]) for name in names if name.startswith("hvp_patching.")
    ]
    files = [file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py")]
    return [file for file in files if (ROOT / file).is_file()]


def prompt_sources(task: str) -> list[str]:
    """Modules that make the prompts of one task; a new task touches no other task's prompts."""
    from hvp_patching.prompts.registry import get_task

    try:
        get_task(task)
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    texts = ("checks", "forms", "pair", "texts")
    shared = ("corruptions", "data_files", *texts, "seeded", "task", "validation")
    return sources(*(f"prompts/{name}" for name in (*shared, task)))


def model_source(model: str) -> str:
    """Where the registry says that a model comes from; another model's entry is not part of it."""
    from hvp_patching.models.registry import get_spec

    try:
        return repr(get_spec(model).source)
    except ValueError as error:
        raise WorkflowError(str(error)) from None
