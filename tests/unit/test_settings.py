"""The configuration's checks, counts and source lists (workflow/settings.py, config_check.py)."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

import artefacts as artefact_lists  # noqa: E402
import config_check  # noqa: E402
import settings  # noqa: E402


def load(profile: str = "config", **overrides: Any) -> dict[str, Any]:
    """The default configuration under a profile's, as Snakemake merges them."""
    config: dict[str, Any] = {}
    for name in dict.fromkeys(("config", profile)):
        update_config(config, yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()))
    update_config(config, copy.deepcopy(overrides))
    return config


@pytest.mark.parametrize("profile", ["config", "smoke", "paper"])
def test_the_profiles_pass(profile):
    config_check.check_config(load(profile))


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
    "unknown estimator of the sweep": (
        {"sweep_estimators": ["ap", "ms_hpv_3"]},
        "config: unknown estimator 'ms_hpv_3'; known: ap, ",
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


def test_the_schema_knows_every_key_and_forbids_others():
    schema = yaml.safe_load(config_check.SCHEMA.read_text())
    assert set(schema["required"]) == set(schema["properties"]) == set(load())
    assert schema["additionalProperties"] is False


def test_a_count_for_a_model_goes_before_one_for_the_task():
    config = load("paper")
    assert settings.n_prompts(config, "pythia-410m", "ioi") == 280
    assert settings.n_prompts(config, "gemma-2-2b", "ioi") == 50


def test_a_task_without_a_count_says_where_to_put_one():
    config = load()
    del config["prompts"]["quick"]["ioi"]
    with pytest.raises(WorkflowError, match=r"prompts\.quick has no count .* 'ioi'; add 'ioi: N'"):
        config_check.check_config(config)


def test_setting_files_follow_the_config():
    names = ["tiny-gpt2/factual", "tiny-llama/ioi", "tiny-llama/ioi/zero"]
    assert settings.setting_files(
        load(), names, "{model}-{task}-{corruption}-{site}", site="x"
    ) == [
        "tiny-gpt2-factual-random_token-x",
        "tiny-llama-ioi-name_swap-x",
        "tiny-llama-ioi-zero-x",
    ]


def wildcards(name: str, site: str = "attn_heads") -> SimpleNamespace:
    return SimpleNamespace(**settings.setting(load(), name), site=site)


def test_only_the_settings_of_table2_need_all_its_estimators():
    config = load()
    assert settings.estimators(config, wildcards("smollm2-135m/ioi")) == config["estimators"]
    for name, site in (
        ("smollm2-135m/ioi/zero", "attn_heads"),
        ("smollm2-135m/ioi", "mlp_pre"),
        ("gpt2-small/ioi", "attn_heads"),
    ):
        assert settings.estimators(config, wildcards(name, site)) == ["ap", "hvp"]


def test_baselines_are_those_of_the_tables_that_show_them():
    config = load()
    assert settings.baselines(config, wildcards("smollm2-135m/ioi")) == ["gim"]
    assert settings.baselines(config, wildcards("smollm2-135m/factual")) == [
        "gim",
        "atp_star",
        "atp_star_qkv",
    ]
    assert settings.baselines(config, wildcards("smollm2-135m/factual", "resid_post")) == ["gim"]
    assert settings.baselines(config, wildcards("smollm2-135m/ioi", "resid_post")) == []
    assert settings.baselines(config, wildcards("smollm2-135m/ioi/zero")) == []


def test_only_neurons_are_sampled():
    config = load(effort="paper")
    assert settings.neurons_per_layer(config, wildcards("smollm2-135m/ioi", "mlp_pre")) == 256
    assert settings.neurons_per_layer(config, wildcards("smollm2-135m/ioi", "mlp_out")) is None


def test_an_import_closure_has_what_a_module_imports_and_no_more():
    found = settings.import_closure("baselines/gim")
    assert "src/hvp_patching/baselines/gim.py" in found
    assert "src/hvp_patching/paths/base_run.py" in found
    assert not {path for path in found if "taylor" in path or "cache" in path}
    assert found == sorted(set(found))


FIGURE_NOTEBOOKS = [f"notebooks/{one.notebook}.ipynb" for one in artefact_lists.FIGURES.values()]


def test_every_notebook_tells_what_it_imports():
    for notebook in FIGURE_NOTEBOOKS:
        found = settings.notebook_closure(notebook)
        assert found[0] == notebook
        assert "src/hvp_patching/reporting/figures/files.py" in found
        assert all((ROOT / path).is_file() for path in found)


def test_every_figure_has_a_notebook_and_every_notebook_a_figure():
    known = {ROOT / path for path in FIGURE_NOTEBOOKS}
    assert set((ROOT / "notebooks").glob("*.ipynb")) == known
    assert len(known) == len(artefact_lists.FIGURES)


def test_sources_are_files_of_the_library():
    found = settings.sources("metrics/*", "sites")
    assert "src/hvp_patching/sites.py" in found
    assert "src/hvp_patching/metrics/errors.py" in found
    assert all((ROOT / path).is_file() for path in found)
    with pytest.raises(WorkflowError, match=r"no module matches src/hvp_patching/nothing\.py"):
        settings.sources("nothing")


def test_prompts_of_one_task_do_not_depend_on_another_task():
    found = settings.prompt_sources("ioi")
    assert "src/hvp_patching/prompts/ioi.py" in found
    assert not {path for path in found if path.endswith(("factual.py", "registry.py"))}
    with pytest.raises(WorkflowError, match="unknown task 'nope'; known: ioi, "):
        settings.prompt_sources("nope")


def test_a_model_source_has_what_its_preparation_depends_on():
    source = settings.model_source("smollm2-135m")
    assert "0.1.2" in source
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in source
    with pytest.raises(WorkflowError, match="unknown model 'nope'"):
        settings.model_source("nope")


def test_every_baseline_module_is_a_baseline():
    from hvp_patching.baselines import BASELINES

    assert sorted(BASELINES) == settings.BASELINE_MODULES
