"""Refuses a configuration that cannot work, in one line that names the key and what it may be."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from artefacts import setting_keys
from choices import is_baseline, known_baselines, n_prompts
from code_inputs import ROOT, project_file
from config_values import (
    Loader,
    check_arguments,
    check_files,
    not_finite,
    odd_values,
    read_values,
    shown,
)
from snakemake.exceptions import WorkflowError

# jsonschema builds grammars of addresses (a second and more) where these can be imported; no format
# in the schema needs them.
ADDRESSES = ("rfc3987", "rfc3987_syntax", "rfc3986_validator")
_absent = [name for name in ADDRESSES if sys.modules.setdefault(name, None) is None]  # type: ignore[arg-type]
from jsonschema import Draft202012Validator, ValidationError, validators  # noqa: E402
from jsonschema.exceptions import best_match  # noqa: E402

for name in _absent:
    del sys.modules[name]

from hvp_patching.frames import READINGS  # noqa: E402
from hvp_patching.places import SITES  # noqa: E402
from hvp_patching.settings import Setting  # noqa: E402

SCHEMA = Path(__file__).resolve().parent / "schemas" / "config.schema.yaml"
SETTING_KEYS = setting_keys()  # keys whose value is one 'model/task' or several
PAPERS_TASKS = ("ioi", "greater_than", "factual")  # of its Table 2
TYPES = {
    "boolean": "true or false",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list, such as [a, b]",
    "object": "a mapping, such as {key: value}",
}


def _is_whole(checker: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


Validator = validators.extend(  # to JSON Schema 1e30 is a whole number
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole),
)


@cache
def _schema() -> dict[str, Any]:
    schema = dict(yaml.load(SCHEMA.read_text(encoding="utf-8"), Loader=Loader))
    schema["$defs"]["site"] |= {"enum": list(SITES)}
    return schema


def default_file(workflow: Any, name: str) -> str:
    """The default configuration's file, from wherever Snakemake runs.

    Raises WorkflowError where the files or the command line say one thing twice.
    """
    given = workflow.config_settings
    arguments = given.config_args if isinstance(given.config_args, list) else []
    try:
        check_files([ROOT / name, *map(Path, given.configfiles)])
        check_arguments(arguments)
    except ValueError as error:
        raise WorkflowError(f"config: {error}") from None
    return project_file(name)


def check_config(config: dict[str, Any]) -> None:
    """Raise WorkflowError unless the configuration fits the schema and every name is known.

    Texts of numbers become numbers in place.
    """
    schema = _schema()
    for fault in odd_values(config):
        raise WorkflowError(f"config: {fault}")
    _read_check(config)
    read_values(config, schema, schema)
    for key, value in not_finite(config):
        raise WorkflowError(f"config: {key} is {value}; it must be a finite number")
    error = best_match(Validator(schema).iter_errors(config))
    if error is not None:
        raise WorkflowError(f"config: {_explain(error)}")
    try:
        _check_names(config)
    except ValueError as unknown:
        raise WorkflowError(f"config: {unknown}") from None
    for key in SETTING_KEYS:
        for name in _settings(config, key):
            parsed = Setting.parse(name)
            n_prompts(config, parsed.model, parsed.task)


def _read_check(config: dict[str, Any]) -> None:
    """YAML reads a bare 'off' as false, and `check=true` must mean something."""
    if isinstance(config.get("check"), bool):
        config["check"] = "sample" if config["check"] else "off"


def _explain(error: ValidationError) -> str:
    """What is wrong with which key, and what would be right."""
    *parents, last = error.absolute_path or [""]
    in_list = isinstance(last, int)
    key = ".".join(map(str, parents if in_list else [*parents, last]))
    value, expected = error.instance, error.validator_value
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        own = "|".join(error.schema.get("patternProperties", ())) or "$."
        unknown = next(name for name in value if name not in known and not re.search(own, name))
        return f"unknown key '{_join(key, unknown)}'{_hint(str(unknown), known)}"
    if error.validator == "required":
        missing = next(name for name in expected if name not in value)
        return f"the key '{_join(key, missing)}' is missing; {SCHEMA.name} has what it may be"
    if error.validator == "minItems":
        return f"{key} is empty; it needs at least {expected}"
    if error.validator == "minLength":
        return f"{key} is empty; leave the key out or give it a value"
    if error.validator == "uniqueItems":
        twice = next((item for item in value if value.count(item) > 1), value)
        return f"{key} has {shown(twice)} twice; remove one"
    must = {
        "enum": lambda: "one of " + ", ".join(map(str, expected)),
        "type": lambda: TYPES.get(expected, str(expected)),
        "minimum": lambda: f"at least {expected}",
        "maximum": lambda: f"at most {expected}",
        "exclusiveMinimum": lambda: f"more than {expected}",
    }.get(error.validator, lambda: error.schema.get("description", f"like {expected}"))
    if "propertyNames" in error.absolute_schema_path:
        return f"{key} has the key {shown(value)}; a key must be {must()}"
    if in_list:
        return f"{key} has the entry {shown(value)}; each must be {must()}"
    return f"{key} is {shown(value)}; it must be {must()}"


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _hint(word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = get_close_matches(word, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"


def _settings(config: dict[str, Any], key: str) -> list[str]:
    if key not in config:
        raise ValueError(f"the key '{key}' is missing, whose settings an artefact shows")
    value = config[key]
    if isinstance(value, str):
        return [value]
    return list(value.values() if isinstance(value, dict) else value)


def _known(word: str, known: Iterable[str], what: str, key: str) -> None:
    known = list(known)
    if word not in known:
        near = get_close_matches(word, known, n=1)
        guess = f"did you mean '{near[0]}'? " if near else ""
        raise ValueError(f"{key} has the unknown {what} '{word}'; {guess}known: {', '.join(known)}")


def _known_baseline(name: str, key: str) -> None:
    if not is_baseline(name):
        _known(name, known_baselines(), "baseline", key)


def _check_estimator(name: str, key: str) -> None:
    from hvp_patching.estimators import by_name

    try:
        by_name(name)
    except ValueError as error:
        known = str(error).startswith("unknown")
        raise ValueError(str(error) if known else f"{key} has '{name}': {error}") from None


def _check_names(config: dict[str, Any]) -> None:
    """Models, tasks, corruptions, estimators and baselines, each as its own module knows them."""
    from hvp_patching.models.registry import list_models
    from hvp_patching.prompts.registry import TASKS

    models = list_models()
    for key in (
        "models",
        "model_folders",
        "model_revisions",
        "autoencoders",
        "autoencoder_folders",
    ):
        for model in config[key]:
            _known(model, models, "model", key)
    _check_origins(config)
    _check_folders(config)
    _check_keys(config, models, TASKS)
    for key in SETTING_KEYS:
        for name in _settings(config, key):
            parsed = Setting.parse(name)
            _known(parsed.model, models, "model", key)
            _known(parsed.task, TASKS, "task", key)
            _known(parsed.task, config["corruptions"], "task", f"{key} (see corruptions)")
    _check_autoencoders(config)
    _check_edges(config, models, TASKS)
    _known(config["table3"], config["component_settings"], "setting", "table3")
    for task, corruption in config["corruptions"].items():
        _known(task, TASKS, "task", "corruptions")
        _known(corruption, TASKS[task].corruptions, "corruption", f"corruptions.{task}")
    for key in ("estimators", "site_estimators"):
        for name in config[key]:
            _check_estimator(name, key)
    for name in config["table12"]:
        for corruption in config["other_corruptions"]:
            known = TASKS[Setting.parse(name).task].corruptions
            _known(corruption, known, "corruption", "other_corruptions")
    few = ("table9_estimators", "sweep_estimators", "convergence_estimators")
    for key in few:
        for name in config[key]:
            if not is_baseline(name):
                _check_estimator(name, key)
    for name in config["baselines"]:
        _known_baseline(name, "baselines")
    _check_floors(config)
    for site in config["sites"]:
        _known(site, config["site_baselines"], "site", "sites (see site_baselines)")
    for site, names in config["site_baselines"].items():
        for name in names:
            _known_baseline(name, f"site_baselines.{site}")
    computed = [*config["estimators"], *config["baselines"]]
    for column, name in config["table2_columns"].items():
        if name not in computed:
            raise ValueError(
                f"table2_columns.{column} is '{name}', which is neither among estimators nor "
                f"baselines; add it there, or choose one of: {', '.join(computed)}"
            )


def _check_edges(config: dict[str, Any], models: Iterable[str], tasks: Iterable[str]) -> None:
    """Methods that score edges, each where its price and its choice of edges allow it."""
    from hvp_patching.circuits.method_names import replaces, split_name, unit_of

    further = config["further_circuit_methods"]
    listed = {f"further_circuit_methods.{name}": names for name, names in further.items()}
    listed |= {key: config[key]["methods"] for key in ("edge_sample", "edge_timing")}
    listed |= {"circuit_methods": config["circuit_methods"]}
    for key, name in ((key, name) for key, names in listed.items() for name in names):
        try:
            split_name(name)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        why = "chooses its edges by all prompts" if replaces(name) else ""
        if key == "edge_timing" and unit_of(name) != "prompt":
            why = "has a price that grows with the edges"
        if key.startswith("edge_") and why:
            raise ValueError(f"{key} has '{name}', which {why}; remove it")
    for parsed in map(Setting.parse, further):
        _known(parsed.model, models, "model", "further_circuit_methods")
        _known(parsed.task, tasks, "task", "further_circuit_methods")


def _check_floors(config: dict[str, Any]) -> None:
    """Readings that there are, and a task to set beside the paper's."""
    for name in config["floors_readings"]:
        _known(name, READINGS[1:], "reading", "floors_readings")
    if not {Setting.parse(name).task for name in config["floors"]} & {*PAPERS_TASKS}:
        raise ValueError(
            "floors has none of the tasks of the paper's Table 2 "
            f"({', '.join(PAPERS_TASKS)}); add a setting of one"
        )


def _check_autoencoders(config: dict[str, Any]) -> None:
    """Autoencoders of every setting of Table 17, one a layer, that training could make."""
    for name in config["table17"]:
        model = Setting.parse(name).model
        _known(model, config["autoencoders"], "model", "table17 (see autoencoders)")
    for model, hooks in config["autoencoders"].items():
        layers = [hook.split(".")[1] for hook in hooks]
        twice = next((layer for layer in layers if layers.count(layer) > 1), None)
        if twice is not None:
            raise ValueError(f"autoencoders.{model} has layer {twice} twice; keep one hook of it")
    training = config["autoencoder_training"]
    if training["k"] > training["width"]:
        raise ValueError(
            f"autoencoder_training.k is {training['k']} of {training['width']} features; lower it"
        )


def _check_origins(config: dict[str, Any]) -> None:
    """Folders and revisions for models that have them: others would be ignored without a word."""
    from hvp_patching.models.registry import Hub, Tiny, get_spec

    for model in config["model_folders"]:
        if isinstance(get_spec(model).source, Tiny):
            raise ValueError(
                f"model_folders.{model}: this model is made from a seed, not read from a folder; "
                "remove the key"
            )
    for model in config["model_revisions"]:
        if model in config["model_folders"] or not isinstance(get_spec(model).source, Hub):
            raise ValueError(
                f"model_revisions.{model}: this model does not come from the Hub here, so it has "
                "no revision; remove the key"
            )


def _check_folders(config: dict[str, Any]) -> None:
    """Paths that the system can ask for; whether they are there is said when they are read."""
    for key in ("model_folders", "autoencoder_folders"):
        for model, folder in config[key].items():
            try:
                os.stat(Path(folder).expanduser())
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            except (OSError, RuntimeError, ValueError) as error:
                said = error.strerror if isinstance(error, OSError) else error
                raise ValueError(
                    f"{key}.{model} is {shown(folder)}, which is no path here ({said}); correct it"
                ) from None


def _check_keys(config: dict[str, Any], models: Iterable[str], tasks: Iterable[str]) -> None:
    """Keys that are tasks or models: one that is neither would be ignored without a word."""
    for task in config["prompt_options"]:
        _known(task, tasks, "task", "prompt_options")
    for task, circuits in config["known_circuits"].items():
        _known(task, tasks, "task", "known_circuits")
        for model in circuits:
            _known(model, models, "model", f"known_circuits.{task}")
    counted = [(f"prompts.{effort}", counts) for effort, counts in config["prompts"].items()]
    for effort, needs in config["fewer_prompts"].items():
        counted += [(f"fewer_prompts.{effort}.{need}", counts) for need, counts in needs.items()]
    for key, counts in counted:
        for name in counts:
            *model, task = name.split("/")
            _known(task, tasks, "task", key)
            if model:
                _known(model[0], models, "model", key)
