"""The configuration's checks, whichever way its values are given (workflow/config_*.py)."""

from __future__ import annotations

import copy
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

import config_check  # noqa: E402
import config_values  # noqa: E402


@cache
def profile_file(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())


def load(profile: str = "config", **overrides: Any) -> dict[str, Any]:
    """The default configuration under a profile's, as Snakemake merges them."""
    config: dict[str, Any] = {}
    for name in dict.fromkeys(("config", profile)):
        update_config(config, copy.deepcopy(profile_file(name)))
    update_config(config, copy.deepcopy(overrides))
    return config


@pytest.mark.parametrize("profile", ["config", "smoke", "paper"])
def test_the_profiles_pass(profile):
    config_check.check_config(load(profile))


def test_every_baseline_can_be_asked_for():
    names = ["gim", "gim_0_1_4", "relp", "ig_inputs_5", "clean_corrupted", "second_order_share"]
    sweep = [*load()["sweep_estimators"], "ig_inputs_10", "ih_full_3"]
    config = load(baselines=names, sweep_estimators=sweep)
    config["site_baselines"] |= {"mlp_out": names}
    config_check.check_config(config)


BAD = {
    "unknown key": (
        {"effrt": "quick"},
        "config: unknown key 'effrt'; did you mean 'effort'?",
    ),
    "unknown nested key": (
        {"engine": {"memry_gb": 2}},
        "config: unknown key 'engine.memry_gb'; did you mean 'memory_gb'?",
    ),
    "unknown key like none": (
        {"metrics": {"zzz": 2}},
        "config: unknown key 'metrics.zzz'; known: top_k, trivial_effect, bootstrap_resamples, "
        "bootstrap_seed",
    ),
    "not among the choices": (
        {"effort": "fast"},
        "config: effort is 'fast'; it must be one of quick, standard, paper",
    ),
    "text for a number": (
        {"seed": "zero"},
        "config: seed is 'zero'; it must be a whole number",
    ),
    "a fraction of a prompt": (
        {"prompts": {"quick": {"ioi": 1.5}}},
        "config: prompts.quick.ioi is 1.5; it must be a whole number",
    ),
    "no prompts": (
        {"prompts": {"quick": {"ioi": 0}}},
        "config: prompts.quick.ioi is 0; it must be at least 1",
    ),
    "not positive": (
        {"engine": {"memory_gb": 0}},
        "config: engine.memory_gb is 0; it must be more than 0",
    ),
    "a key that is no task": (
        {"prompts": {"quick": {"Ioi 2": 3}}},
        "config: prompts.quick has the key 'Ioi 2'; a key must be TASK or MODEL/TASK, such as "
        "smollm2-135m/ioi",
    ),
    "text for a list": (
        {"models": "tiny-gpt2"},
        "config: models is 'tiny-gpt2'; it must be a list, such as [a, b]",
    ),
    "an entry without a task": (
        {"table2": ["tiny-gpt2"]},
        "config: table2 has the entry 'tiny-gpt2'; each must be MODEL/TASK, such as "
        "smollm2-135m/ioi",
    ),
    "empty": ({"table2": []}, "config: table2 is empty; it needs at least 1"),
    "twice": (
        {"estimators": ["ap", "ap"]},
        "config: estimators has 'ap' twice; remove one",
    ),
    "unknown device": (
        {"engine": {"device": "gpu"}},
        "config: engine.device is 'gpu'; it must be auto, cpu, cuda or cuda:N",
    ),
    "unknown model": (
        {"table2": ["smolm2-135m/ioi"]},
        "config: table2 has the unknown model 'smolm2-135m'; did you mean 'smollm2-135m'? known: ",
    ),
    "unknown model of table 1": (
        {"models": ["gpt9"]},
        "config: models has the unknown model 'gpt9'; ",
    ),
    "unknown reading": (
        {"floors_readings": ["redrawn", "bios"]},
        "config: floors_readings has the unknown reading 'bios'; did you mean 'bos'? known: ",
    ),
    "no task of the paper's Table 2": (
        {"floors": ["smollm2-135m/entity_swap"]},
        "config: floors has none of the tasks of the paper's Table 2 (ioi, greater_than, factual); "
        "add a setting of one",
    ),
    "unknown model folder": (
        {"model_folders": {"gpt2": "x"}},
        "config: model_folders has the unknown model 'gpt2'; ",
    ),
    "unknown task": (
        {"table2": ["tiny-gpt2/iio"]},
        "config: table2 has the unknown task 'iio'; did you mean 'ioi'? known: ioi, ",
    ),
    "unknown corruption": (
        {"corruptions": {"ioi": "random"}},
        "config: corruptions.ioi has the unknown corruption 'random'; did you mean "
        "'random_token'? known: ",
    ),
    "unknown estimator": (
        {"estimators": ["ap", "hpv"]},
        "config: unknown estimator 'hpv'; known: ap, hvp, ms_hvp_N, ",
    ),
    "unknown baseline": (
        {"baselines": ["gmi"]},
        "config: baselines has the unknown baseline 'gmi'; did you mean 'gim'? known: ",
    ),
    "unknown model of a table": (
        {"table7": "gema-3-270m/factual"},
        "config: table7 has the unknown model 'gema-3-270m'; did you mean 'gemma-3-270m'? known: ",
    ),
    "a table of another setting": (
        {"table3": "tiny-llama/ioi"},
        "config: table3 has the unknown setting 'tiny-llama/ioi'; known: smollm2-135m/factual, ",
    ),
    "unknown site": (
        {"sites": ["attn_haeds"]},
        "config: sites has the entry 'attn_haeds'; each must be one of attn_heads, mlp_pre, ",
    ),
    "unknown baseline of a site": (
        {"site_baselines": {"mlp_out": ["atp"]}},
        "config: site_baselines.mlp_out has the unknown baseline 'atp'; ",
    ),
    "baseline without its number": (
        {"baselines": ["gim", "ig_inputs"]},
        "config: baselines has the unknown baseline 'ig_inputs'; did you mean 'ig_inputs_N'? ",
    ),
    "baseline with no step": (
        {"site_baselines": {"mlp_out": ["ig_inputs_0"]}},
        "config: site_baselines.mlp_out has the unknown baseline 'ig_inputs_0'; ",
    ),
    "unknown estimator of the sweep": (
        {"sweep_estimators": ["ap", "ms_hpv_3"]},
        "config: unknown estimator 'ms_hpv_3'; known: ap, ",
    ),
    "unknown method of edges": (
        {"circuit_methods": ["eap", "eap_ig_5"]},
        "config: circuit_methods: unknown method 'eap_ig_5'; known: eap, eap_ig_inputs_N, ",
    ),
    "unknown method of edges in one setting": (
        {"further_circuit_methods": {"gpt2-small/ioi": ["own"]}},
        "config: further_circuit_methods.gpt2-small/ioi: unknown method 'own'; known: eap, ",
    ),
    "further methods of an unknown model": (
        {"further_circuit_methods": {"gpt2/ioi": ["eap"]}},
        "config: further_circuit_methods has the unknown model 'gpt2'; ",
    ),
    "a sample of edges that a method would choose": (
        {"edge_sample": {"methods": ["selective_own_9"]}},
        "config: edge_sample has 'selective_own_9', which chooses its edges by all prompts; ",
    ),
    "a method that all edges would take hours by": (
        {"edge_timing": {"methods": ["eap", "hvp_own"]}},
        "config: edge_timing has 'hvp_own', which has a price that grows with the edges; ",
    ),
    "no edges of a stratum": (
        {"edge_sample": {"per_stratum": 0}},
        "config: edge_sample.per_stratum is 0; it must be at least 1",
    ),
    "sets of no heads": (
        {"set_draws": {"sizes": [0, 2]}},
        "config: set_draws.sizes has the entry 0; each must be at least 1",
    ),
    "no size of sets": (
        {"set_draws": {"sizes": []}},
        "config: set_draws.sizes is empty; it needs at least 1",
    ),
    "unknown metric of sets": (
        {"set_draws": {"metrics": ["logits"]}},
        "config: set_draws.metrics has the entry 'logits'; each must be one of logprob, ",
    ),
    "a column that nobody computes": (
        {"table2_columns": {"ig": "ig_20"}},
        "config: table2_columns.ig is 'ig_20', which is neither among estimators nor baselines; "
        "add it there, or choose one of: ap, ",
    ),
}


@pytest.mark.parametrize(("overrides", "line"), BAD.values(), ids=BAD)
def test_a_bad_configuration_is_refused_in_one_line(overrides, line):
    with pytest.raises(WorkflowError) as caught:
        config_check.check_config(load(**overrides))
    message = str(caught.value)
    assert message.startswith(line)
    assert "\n" not in message


def test_a_key_that_is_missing_is_named():
    config = load()
    del config["engine"]["dtype"]
    with pytest.raises(WorkflowError, match=r"^config: the key 'engine.dtype' is missing; "):
        config_check.check_config(config)


def test_numbers_given_on_the_command_line_inside_a_mapping_are_read_as_numbers():
    config = load(prompts={"quick": {"ioi": "7"}}, metrics={"trivial_effect": "1e-5"})
    config_check.check_config(config)
    assert config["prompts"]["quick"]["ioi"] == 7
    assert config["metrics"]["trivial_effect"] == 1e-5


@pytest.mark.parametrize(
    ("written", "level"), [("off", "off"), ("sample", "sample"), ("all", "all"), ("true", "sample")]
)
def test_the_check_is_read_as_it_is_written_in_yaml(written, level):
    """A bare 'off' is false in YAML."""
    config = load(check=yaml.safe_load(written))
    config_check.check_config(config)
    assert config["check"] == level


def test_a_check_level_that_does_not_exist_is_refused():
    with pytest.raises(WorkflowError, match="check is 'some'; it must be one of off, sample, all"):
        config_check.check_config(load(check="some"))


def test_the_schema_knows_every_key_and_forbids_others():
    schema = yaml.safe_load(config_check.SCHEMA.read_text())
    assert set(schema["required"]) == set(schema["properties"]) == set(load())
    assert schema["additionalProperties"] is False


HOSTILE = {  # key: a value that looks like one of its kind
    "NaN": ({"tau": float("nan")}, "config: tau is nan; it must be a finite number"),
    "NaN as text": ({"tau": "nan"}, "config: tau is 'nan'; it must be a number"),
    "infinity": (
        {"engine": {"memory_gb": float("inf")}},
        "config: engine.memory_gb is inf; it must be a finite number",
    ),
    "NaN in a list": (
        {"probe_nodes": [0, float("nan"), 1]},
        "config: probe_nodes is nan; it must be a finite number",
    ),
    "NaN in options": (
        {"prompt_options": {"ioi": {"x": float("nan")}}},
        "config: prompt_options.ioi.x is nan; it must be a finite number",
    ),
    "true for a number": ({"seed": True}, "config: seed is True; it must be a whole number"),
    "a float that is no count": (
        {"seed": 1e30},
        "config: seed is 1e+30; it must be a whole number",
    ),
    "too large": ({"seed": 2**32}, "config: seed is 4294967296; it must be at most 4294967295"),
    "negative": ({"seed": "-1"}, "config: seed is -1; it must be at least 0"),
    "other digits": ({"seed": "0x10"}, "config: seed is '0x10'; it must be a whole number"),
    "upper case": (
        {"effort": "QUICK"},
        "config: effort is 'QUICK'; it must be one of quick, standard, paper",
    ),
    "a list as text": (
        {"table4": "tiny-gpt2/greater_than"},
        "config: table4 is 'tiny-gpt2/greater_than'; it must be a list, such as [a, b]",
    ),
    "nothing": ({"seed": None}, "config: seed is None; it must be a whole number"),
    "no folder": (
        {"model_folders": {"gpt2-small": ""}},
        "config: model_folders.gpt2-small is empty; leave the key out or give it a value",
    ),
    "a folder that would be ignored": (
        {"model_folders": {"tiny-gpt2": "x"}},
        "config: model_folders.tiny-gpt2: this model is made from a seed, not read from a folder; ",
    ),
    "a revision that would be ignored": (
        {"model_revisions": {"smollm2-135m": "main"}},
        "config: model_revisions.smollm2-135m: this model does not come from the Hub here, so ",
    ),
    "a revision beside a folder": (
        {"model_revisions": {"gpt2-small": "main"}, "model_folders": {"gpt2-small": "x"}},
        "config: model_revisions.gpt2-small: this model does not come from the Hub here, so ",
    ),
    "options of no task": (
        {"prompt_options": {"iio": {}}},
        "config: prompt_options has the unknown task 'iio'; did you mean 'ioi'? known: ",
    ),
    "counts of no task": (
        {"prompts": {"paper": {"ioii": 3}}},
        "config: prompts.paper has the unknown task 'ioii'; did you mean 'ioi'? known: ",
    ),
    "counts of no model": (
        {"prompts": {"quick": {"gpt9/ioi": 3}}},
        "config: prompts.quick has the unknown model 'gpt9'; ",
    ),
    "circuits of no task": (
        {"known_circuits": {"oio": []}},
        "config: known_circuits has the unknown task 'oio'; did you mean 'ioi'? known: ",
    ),
}


@pytest.mark.parametrize(("overrides", "line"), HOSTILE.values(), ids=HOSTILE)
def test_a_value_that_would_be_misread_is_refused_in_one_line(overrides, line):
    test_a_bad_configuration_is_refused_in_one_line(overrides, line)


def leaves(schema: dict[str, Any], root: dict[str, Any], *path: str):
    """Places of single values in the schema, with their type."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    for key, inner in schema.get("properties", {}).items():
        yield from leaves(inner, root, *path, key)
    if not schema.get("properties"):
        yield path, schema


def set_at(config: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value


ROOT_SCHEMA = yaml.safe_load(config_check.SCHEMA.read_text())
PLACES = {".".join(path): (path, kind) for path, kind in leaves(ROOT_SCHEMA, ROOT_SCHEMA)}
NUMBERS = {key: v for key, v in PLACES.items() if v[1].get("type") in {"integer", "number"}}


@pytest.mark.parametrize(("path", "kind"), NUMBERS.values(), ids=NUMBERS)
def test_a_number_means_the_same_however_it_is_written(path, kind):
    number = min(100, kind.get("maximum", 100))
    written = " 1e2 " if number == 100 else f" {number}e0 "
    ways = [number, f"{number}", written, float(number), f"{number}.0", f"+{number}"]
    for way in ways:
        config = load()
        set_at(config, path, way)
        config_check.check_config(config)
        for key in path:
            config = config[key]
        assert config == number
        assert kind["type"] == "number" or type(config) is int


def refusal(path: tuple[str, ...], value: Any) -> str | None:
    """What the check says of one value in the default configuration; None where it passes."""
    config = load()
    set_at(config, path, copy.deepcopy(value))
    try:
        config_check.check_config(config)
    except WorkflowError as error:
        return str(error)
    return None


ODD = [True, None, "", "x", [], [1], {"a": 1}, float("nan"), float("inf"), -1, 1.5, "true", {}]


@pytest.mark.parametrize("path", [path for path, _ in PLACES.values()], ids=PLACES)
def test_an_odd_value_of_any_key_is_refused_in_one_line_or_is_one_of_its_kind(path):
    """No key takes everything, and no refusal is another thing than one line."""
    refusals = [line for line in (refusal(path, value) for value in ODD) if line is not None]
    assert len(refusals) >= 8
    assert all(line.startswith("config: ") and "\n" not in line for line in refusals)


TEXTS = {
    "twice": ("a: 1\nb: 2\na: 3\n", "x has the key 'a' twice (lines 1 and 3); remove one"),
    "twice, quoted": ("a: 1\n'a': 3\n", "x has the key 'a' twice (lines 1 and 2); remove one"),
    "twice within": ("a: {b: 1, b: 2}", "x has the key 'b' twice (line 1); remove one"),
    "twice in JSON": ('{"a": 1,\n "a": 2}', "x has the key 'a' twice (lines 1 and 2); remove one"),
    "octal": ("a:\n  b: 010", "x has the number 010 in line 2, which YAML reads to the base of "),
    "sexagesimal": ("a: [1:30]", "x has the number 1:30 in line 1, which YAML reads to the base "),
}


@pytest.mark.parametrize(("text", "line"), TEXTS.values(), ids=TEXTS)
def test_a_file_that_yaml_would_read_otherwise_is_refused(text, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        config_values.check_text(text, "x")


def test_plain_files_pass():
    config_values.check_files(ROOT.glob("config/*.yaml"))
    config_values.check_text("a: &x [1, 0, 0.5, 1.0e-6]\nb: *x\nc: '010'\nd: {a: 1}\n", "x")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("--config seed=1 seed=2", "--config has the key 'seed' twice; remove one"),
        ("--config seed=1 --config tau=2", "--config is given more than once and only the last"),
        ("-C seed=1 --config=tau=2", "--config is given more than once and only the last"),
        ("--config prompts={quick:{ioi:4},quick:{}}", "--config prompts has the key 'quick' twice"),
    ],
)
def test_an_argument_that_would_be_lost_is_refused(command, line):
    words = command.split()
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        config_values.check_arguments([w for w in words if w[0] != "-"], words)


def test_one_config_option_with_different_keys_passes():
    config_values.check_arguments(["seed=1", "tau=2"], ["--config", "seed=1", "tau=2"])
