"""What the configuration chooses: counts, settings, artefacts, models (workflow/choices.py)."""

from __future__ import annotations

import copy
import functools
import os
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

import choices  # noqa: E402
import config_check  # noqa: E402
from artefacts import FIGURES  # noqa: E402


@functools.cache
def profile_file(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())


def load(profile: str = "config", **overrides: Any) -> dict[str, Any]:
    """The default configuration under a profile's, as Snakemake merges them."""
    config: dict[str, Any] = {}
    for name in dict.fromkeys(("config", profile)):
        update_config(config, copy.deepcopy(profile_file(name)))
    update_config(config, copy.deepcopy(overrides))
    return config


def test_a_count_for_a_model_goes_before_one_for_the_task():
    config = load("paper")
    assert choices.n_prompts(config, "pythia-410m", "ioi") == 280
    assert choices.n_prompts(config, "gemma-2-2b", "ioi") == 50


def test_a_task_without_a_count_says_where_to_put_one():
    config = load()
    del config["prompts"]["quick"]["ioi"]
    with pytest.raises(WorkflowError, match=r"prompts\.quick has no count .* 'ioi'; add 'ioi: N'"):
        config_check.check_config(config)


def test_setting_files_follow_the_config():
    names = ["tiny-gpt2/factual", "tiny-llama/ioi", "tiny-llama/ioi/zero"]
    assert choices.setting_files(load(), names, "{model}-{task}-{corruption}-{site}", site="x") == [
        "tiny-gpt2-factual-random_token-x",
        "tiny-llama-ioi-name_swap-x",
        "tiny-llama-ioi-zero-x",
    ]


def wildcards(name: str, site: str = "attn_heads") -> SimpleNamespace:
    return SimpleNamespace(**choices.setting(load(), name), site=site)


def test_every_need_has_its_own_number_of_prompts():
    config = load()
    config["fewer_prompts"]["quick"]["sweep"] = {"smollm2-135m/ioi": 7, "factual": 1000}
    count = functools.partial(choices.n_prompts, config, "smollm2-135m")
    assert count("ioi") == 50
    assert count("ioi", choices.ALL_COMPONENTS) == 20
    assert count("ioi", choices.SWEEP) == 7
    assert count("factual", choices.SWEEP) == 55  # there are no more
    assert count("entity_swap", choices.ALL_COMPONENTS) == 46
    paper = load(effort="paper")
    for need in set(choices.NEEDS) - set(choices.OF_THEIR_OWN):
        assert choices.n_prompts(paper, "smollm2-135m", "greater_than", need) == 200


def test_edges_have_their_own_number_of_prompts_and_lists_hold_them():
    config = load(edge_sample={"prompts": {"quick": 70}}, edge_timing={"prompts": {"quick": 130}})
    count = functools.partial(choices.n_prompts, config, "smollm2-135m", "ioi")
    needs = (choices.CIRCUITS, choices.EDGE_SAMPLE, choices.EDGE_TIMING)
    assert [count(need) for need in needs] == [100, 70, 130]
    assert choices.n_built(config, "smollm2-135m", "ioi") == 130
    assert choices.n_built(config, "smollm2-135m", "factual") == 55
    config["table16"], config["table14"] = [], []
    assert choices.n_built(config, "gemma-3-270m", "ioi") == 100  # one edge of circuits
    config["edges"] = []
    assert choices.n_built(config, "gemma-3-270m", "ioi") == 50


def test_a_setting_may_have_further_circuit_methods():
    config = load(further_circuit_methods={"smollm2-135m/ioi": ["selective_own_9", "eap"]})
    everywhere = config["circuit_methods"]
    found = choices.circuit_methods(config, wildcards("smollm2-135m/ioi"))
    assert found == [*everywhere, "selective_own_9"]
    assert choices.circuit_methods(config, wildcards("gemma-3-270m/ioi")) == everywhere
    assert choices.circuit_methods(config, wildcards("smollm2-135m/ioi/zero")) == everywhere


def test_the_estimators_of_the_largest_effects_are_those_of_the_tables_that_show_them():
    config = load()
    shown = [*config["estimators"], *config["baselines"]]
    assert choices.top_estimators(config) == list(dict.fromkeys(shown))
    assert choices.hessian_estimators(config) == ["ap", *config["table9_estimators"]]


def test_baselines_are_those_of_the_tables_that_show_them():
    config = load()
    everywhere = config["baselines"]
    assert choices.baselines(config, wildcards("smollm2-135m/ioi")) == everywhere
    by_kind = choices.baselines(config, wildcards("smollm2-135m/factual"))
    assert by_kind == [*everywhere, "atp_star", "atp_star_qkv"]
    neurons = choices.baselines(config, wildcards("smollm2-135m/factual", "mlp_pre"))
    assert neurons == [*everywhere, *config["site_baselines"]["mlp_pre"]]
    assert choices.baselines(config, wildcards("smollm2-135m/ioi", "resid_post")) == []
    assert choices.baselines(config, wildcards("smollm2-135m/ioi/zero")) == []


def test_the_sweeps_hold_the_baselines_once():
    config = load(sweep_estimators=["ap", "gim"], baselines=["gim", "relp"])
    assert choices.sweep_estimators(config) == ["ap", "gim", "relp"]


def test_only_neurons_are_sampled():
    config = load(effort="paper")
    assert choices.neurons_per_layer(config, wildcards("smollm2-135m/ioi", "mlp_pre")) == 256
    assert choices.neurons_per_layer(config, wildcards("smollm2-135m/ioi", "mlp_out")) is None


FIGURE_NOTEBOOKS = {ROOT / f"notebooks/{one.notebook}.ipynb" for one in FIGURES.values()}


def test_every_figure_has_a_notebook_and_every_notebook_a_figure():
    assert set((ROOT / "notebooks").glob("*.ipynb")) == FIGURE_NOTEBOOKS
    assert len(FIGURE_NOTEBOOKS) == len(FIGURES)


def test_a_model_source_has_what_its_preparation_depends_on():
    source = choices.model_source("smollm2-135m")
    assert "0.1.2" in source
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in source
    with pytest.raises(WorkflowError, match="unknown model 'nope'"):
        choices.model_source("nope")


def test_the_files_of_a_local_checkpoint_are_those_that_change_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "a b" / "{x}"
    folder.mkdir(parents=True)
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "merges.txt"}
    for name in (*names, "README.md", "pytorch_model.bin"):
        (folder / name).write_text("1" if name != "config.json" else "{}")
    config = load(model_folders={"gpt2-small": "~/a b/{x}"})
    found = choices.checkpoint_files(config, "gpt2-small")
    assert {Path(path).name for path in found} == names
    assert choices.checkpoint_files(config, "pythia-1b") == []

    seen = {choices.checkpoint_identity(config, "gpt2-small")}
    assert choices.checkpoint_identity(config, "pythia-1b") == ""
    for name in sorted(names - {"config.json"}):
        (folder / name).write_text("2")
        os.utime(folder / name, (1, 1))  # an older file in its place
        seen.add(choices.checkpoint_identity(config, "gpt2-small"))
    assert "" not in seen
    assert len(seen) == len(names)


def test_prompts_depend_on_the_data_that_the_library_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("HVP_PATCHING_DATA", raising=False)
    assert choices.prompt_data("ioi") == ["data/prompts/ioi.yaml"]
    assert choices.prompt_data("factual") == ["data/prompts/factual.csv"]
    assert len(choices.prompt_data()) == len(list((ROOT / "data/prompts").iterdir()))
    assert choices.prompt_data("arithmetic") == []
    (tmp_path / "ioi.yaml").write_text("")
    monkeypatch.setenv("HVP_PATCHING_DATA", str(tmp_path))
    assert choices.prompt_data("ioi") == [f"{tmp_path}/ioi.yaml"]


def test_every_baseline_module_is_a_baseline():
    from hvp_patching.baseline_names import module_of
    from hvp_patching.baselines import BASELINES

    assert sorted(map(module_of, BASELINES)) == choices.BASELINE_MODULES
    assert all(map(choices.is_baseline, BASELINES))


def test_a_family_of_baselines_needs_its_number_of_steps():
    assert choices.baseline_module("ig_inputs_12") == "baselines/ig_inputs"
    assert choices.baseline_module("gim_0_1_4") == "baselines/gim_0_1_4"
    assert choices.named_baselines(["ap", "ig_inputs_5", "relp", "ig_5"]) == [
        "baselines/ig_inputs",
        "baselines/relp",
    ]
    for name in ("ig_inputs", "ig_inputs_0", "ig_inputs_05", "gim_5", "relp_5", "_rules", "_named"):
        assert not choices.is_baseline(name)
    assert "ig_inputs_N" in choices.known_baselines()
    assert "ig_inputs" not in choices.known_baselines()
