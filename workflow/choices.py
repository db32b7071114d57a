"""What the configuration chooses: counts, settings, estimators, models and their files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from code_inputs import PACKAGE, ROOT, SRC, project_file
from grammar import path_of
from snakemake.exceptions import WorkflowError

from hvp_patching.baseline_names import COUNTED, counted, module_of, spelled
from hvp_patching.features.published import is_published
from hvp_patching.models.content import checkpoint_content
from hvp_patching.places import SITES
from hvp_patching.settings import Setting

# What prompts are for: top-k errors, all there are; or `fewer_prompts`
NEEDS = (
    *("top", "all_components", "sweep", "probes", "circuits", "edge_sample", "edge_timing"),
    *("floors", "sets", "spectrum"),
)
TOP, ALL_COMPONENTS, SWEEP, PROBES, CIRCUITS, EDGE_SAMPLE, EDGE_TIMING, *_REST = NEEDS
FLOORS, SETS, SPECTRUM = _REST

# Needs whose prompts do not depend on the task
OF_THEIR_OWN: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, int]]] = {
    CIRCUITS: lambda config: config["circuit_prompts"],
    EDGE_SAMPLE: lambda config: config["edge_sample"]["prompts"],
    EDGE_TIMING: lambda config: config["edge_timing"]["prompts"],
}

# One module per baseline, or per family that counts steps (ig_inputs for ig_inputs_5): their names
# are known without importing torch.
BASELINE_MODULES = sorted(
    path.stem for path in (ROOT / SRC / PACKAGE / "baselines").glob("[!_]*.py")
)
# What a checkpoint in the Hub's format is made of; the rest of its folder changes no number.
CHECKPOINT_FILES = (
    "*.json",
    "*.safetensors",
    "tokenizer*",
    "*.model",
    "*.tiktoken",
    "merges.txt",
    "vocab.txt",
)


def n_prompts(config: Mapping[str, Any], model: str, task: str, need: str = TOP) -> int:
    """Prompt pairs of one setting at the configured effort; 'model/task' before 'task'.

    A need of `fewer_prompts` has the first ones alone: what it measures costs more.
    """
    if need in OF_THEIR_OWN:
        return int(OF_THEIR_OWN[need](config)[config["effort"]])
    counts = config["prompts"][config["effort"]]
    n = _count(counts, model, task)
    if n is None:
        raise WorkflowError(
            f"config: prompts.{config['effort']} has no count for the task '{task}'; "
            f"add '{task}: N' there"
        )
    fewer = config["fewer_prompts"][config["effort"]].get(need, {})
    return min(n, _count(fewer, model, task) or n)


def n_built(config: Mapping[str, Any], model: str, task: str) -> int:
    """How many prompt pairs a setting's list holds: as many as the need of most."""
    counts = [n_prompts(config, model, task)]
    shown = {CIRCUITS: ("table16", "edges"), EDGE_SAMPLE: ("edges",), EDGE_TIMING: ("table14",)}
    for need, keys in shown.items():
        if any(f"{model}/{task}" in config[key] for key in keys):
            counts.append(n_prompts(config, model, task, need))
    return max(counts)


def prompts_for(config: Mapping[str, Any], need: str) -> Callable[[Any], int]:
    """`n_prompts` of a rule's wildcards."""
    return lambda wildcards: n_prompts(config, wildcards.model, wildcards.task, need)


def _count(counts: Mapping[str, int], model: str, task: str) -> int | None:
    found = (counts[key] for key in (f"{model}/{task}", task) if key in counts)
    return next(map(int, found), None)


def setting(config: Mapping[str, Any], name: str) -> dict[str, str]:
    """Wildcards of 'model/task', which has the task's usual corruption, or 'model/task/other'."""
    parsed = Setting.parse(name)
    corruption = parsed.corruption or config["corruptions"][parsed.task]
    return {"model": parsed.model, "task": parsed.task, "corruption": corruption}


def setting_files(
    config: Mapping[str, Any], names: Iterable[str], pattern: str, **wildcards: str
) -> list[str]:
    """One file of the path grammar per setting."""
    return [pattern.format(**setting(config, name), **wildcards) for name in names]


def top_estimators(config: Mapping[str, Any]) -> list[str]:
    """What is estimated of the largest effects for Tables 2 and 8."""
    return list(dict.fromkeys([*config["estimators"], *config["baselines"]]))


def hessian_estimators(config: Mapping[str, Any]) -> list[str]:
    """What Table 9 sets against each other; the store shares the nodes of Table 2's."""
    return list(dict.fromkeys(["ap", *config["table9_estimators"]]))


def sweep_estimators(config: Mapping[str, Any]) -> list[str]:
    """What Figures 5 and 6 and the frontier set against each other."""
    return list(dict.fromkeys([*config["sweep_estimators"], *config["baselines"]]))


def baselines(config: Mapping[str, Any], wildcards: Any) -> list[str]:
    """Baselines scored beside AP and HVP, for Tables 3 and 10; a site may have further ones."""
    by_kind = _usual(config, wildcards) in config["component_settings"]
    names = list(config["baselines"]) if by_kind or _in_table2(config, wildcards) else []
    if by_kind:
        names += config["site_baselines"][wildcards.site]
    return list(dict.fromkeys(names))


def neurons_per_layer(config: Mapping[str, Any], wildcards: Any) -> int | None:
    """How many of a layer's components are measured; None for all of them."""
    if wildcards.site in SITES and SITES[wildcards.site].sampled:
        return int(config["neurons_per_layer"][config["effort"]])
    return None


def _usual(config: Mapping[str, Any], wildcards: Any) -> str:
    """'model/task' where the corruption is the task's usual one, '' otherwise."""
    usual = config["corruptions"].get(wildcards.task) == wildcards.corruption
    return f"{wildcards.model}/{wildcards.task}" if usual else ""


def _in_table2(config: Mapping[str, Any], wildcards: Any) -> bool:
    return wildcards.site == "attn_heads" and _usual(config, wildcards) in config["table2"]


def circuit_methods(config: Mapping[str, Any], wildcards: Any) -> list[str]:
    """What scores edges for Table 16: everywhere, and further methods in a setting."""
    further = config["further_circuit_methods"].get(_usual(config, wildcards), [])
    return list(dict.fromkeys([*config["circuit_methods"], *further]))


def is_baseline(name: str) -> bool:
    """Whether a module computes a baseline of this name; a family needs its number of steps."""
    return module_of(name) in BASELINE_MODULES and (name not in COUNTED or bool(counted(name)))


def known_baselines() -> list[str]:
    """The names of all baselines as messages list them, ig_inputs_N among them."""
    return [spelled(module) for module in BASELINE_MODULES]


def baseline_module(name: str) -> str:
    """The module of a baseline, for `script_code`."""
    return f"baselines/{module_of(name)}"


def named_baselines(names: Iterable[str]) -> list[str]:
    """Modules of the baselines among estimators, for `script_code`."""
    return [baseline_module(name) for name in names if is_baseline(name)]


def autoencoder_hooks(config: Mapping[str, Any], model: str) -> list[str]:
    """Hooks of a model's autoencoders, in order; WorkflowError where it has none."""
    hooks = config["autoencoders"].get(model)
    if not hooks:
        raise WorkflowError(
            f"config: autoencoders has no hooks of '{model}'; add '{model}: [HOOK, …]' there, such "
            "as blocks.5.hook_resid_pre"
        )
    return list(hooks)


def autoencoder_source(config: Mapping[str, Any], model: str) -> str:
    """Pattern of the configuration files of autoencoders that are not trained; "" for those.

    A folder of `autoencoder_folders` comes before what is published.
    """
    folder = config["autoencoder_folders"].get(model)
    if folder:
        place = str(Path(folder).expanduser()).replace("{", "{{").replace("}", "}}")
        return f"{place}/{{hook}}/cfg.json"
    return path_of("fetched") if is_published(model) else ""


def autoencoder_files(config: Mapping[str, Any], model: str) -> list[str]:
    """Both files of each of a model's autoencoders, in the order of its hooks."""
    pattern = autoencoder_source(config, model) or path_of("trained")
    named = [pattern.format(model=model, hook=hook) for hook in autoencoder_hooks(config, model)]
    weights = [str(Path(file).with_name("sae_weights.safetensors")) for file in named]
    return [*named, *weights]


def prompt_data(task: str = "*") -> list[str]:
    """The data files of a task, or of all, where the library looks for them."""
    override = os.environ.get("HVP_PATCHING_DATA")
    folder = Path(override) if override else ROOT / "data" / "prompts"
    names = sorted(path.name for path in folder.glob(f"{task}.*") if path.is_file())
    return [
        f"{override}/{name}" if override else project_file(f"data/prompts/{name}") for name in names
    ]


def checkpoint_files(config: Mapping[str, Any], model: str) -> list[str]:
    """Files of the local checkpoint that `model_folders` gives a model, [] without one."""
    local = config["model_folders"].get(model)
    if not local:
        return []
    folder = Path(local).expanduser()
    found = {path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern)}
    return [str(path) for path in sorted(found) if path.is_file()]


def checkpoint_identity(config: Mapping[str, Any], model: str) -> str:
    """What identifies the content of that checkpoint, "" without one or where it cannot be read.

    Other content reruns the model whatever its files' times of change; an unchanged one is not
    read again.
    """
    local = config["model_folders"].get(model)
    return checkpoint_content(local, f"data/models/{model}/hvp_model.json") if local else ""


def model_source(model: str) -> str:
    """Where the registry says that a model comes from; another model's entry is not part of it."""
    return repr(_spec(model).source)


def prepends_bos(model: str) -> bool:
    """Whether the registry begins this model's texts with the BOS token."""
    return bool(_spec(model).prepend_bos)


def _spec(model: str) -> Any:
    from hvp_patching.models.registry import get_spec

    try:
        return get_spec(model)
    except ValueError as error:
        raise WorkflowError(str(error)) from None
