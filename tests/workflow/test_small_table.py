"""Table 2 of one model and two prompts: made, left alone, extended, rebuilt and resumed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import time
import zipfile

import pandas as pd
import pytest
from safetensors.torch import load, save

from hvp_patching.estimators import by_name
from hvp_patching.measuring.scores import score_estimators
from hvp_patching.metrics.errors import prompt_errors
from hvp_patching.reporting.cells import fixed
from hvp_patching.store import DIGEST_BYTES, MARK

pytestmark = pytest.mark.workflow
START = len(MARK) + DIGEST_BYTES  # of an entry's payload


def entry_of_ranking_jets(checkout):
    """An entry that compute_ranking_jets reads: of every component, with derivatives."""
    shapes = {}
    for path in (checkout.root / "results/store").rglob("*"):
        values = load(path.read_bytes()[START:]).get("values") if path.is_file() else None
        if values is not None and values.shape[-1] > 1:
            shapes[path] = values.shape[0]
    return min(path for path, n in shapes.items() if n == max(shapes.values()))


def test_the_table_says_where_it_comes_from(built):
    for path, comment in (("tables/table2.tex", "% "), ("tables/table2.csv", "# ")):
        text = built.text(path)
        assert text.startswith(f"{comment}profile: smoke; effort: quick\n")
        assert f"{comment}models: {built.model}\n" in text
        assert f"{comment}prompts: {built.model}/ioi: 2\n" in text
        assert f"{comment}packages: torch 2" in text
        assert f"{comment}commit: " in text
        assert text.count(f"{comment}computed with torch 2") == 1
    assert r"\begin{tabular}" in built.text("tables/table2.tex")


def test_the_table_has_every_column_and_the_papers_numbers_beside_ours(built):
    table = pd.read_csv(built.root / "tables/table2.csv", comment="#").set_index("method")
    papers = ["ap", "hvp", "ms_hvp", "ig", "ih_pi", "gim"]
    others = ["gim_0_1_4", "relp", "ig_inputs_5", "clean_corrupted", "second_order_share"]
    assert list(table.index) == [*papers, *others]
    for column in ("top5_rel_error_pct", "ci_low", "ci_high"):
        assert all(math.isfinite(value) and value > 0 for value in table[column])
    # without a gated MLP the two versions of GIM are one
    assert table["top5_rel_error_pct"].nunique() == len(table) - 1
    assert table.loc["ms_hvp", "top5_rel_error_pct"] < table.loc["ap", "top5_rel_error_pct"]
    published = pd.read_csv(built.root / "data/published/table02.csv")
    paper = published[(published["model"] == built.model) & (published["task"] == "ioi")]
    for method, value in paper.set_index("method")["top5_rel_error_pct"].dropna().items():
        assert table.loc[method, "published_pct"] == value
    assert table["published_pct"].notna().sum() >= 5
    assert "paper" in built.text("tables/table2.tex")


def test_measuring_everything_gives_the_same_table(built):
    """Largest effects by demand, in the batches of their own, as every component is scored."""
    jets = pd.read_parquet(built.root / built.jets)
    names = {"ap": "ap", "hvp": "hvp", "ms_hvp": "ms_hvp_5", "ig": "ig_10", "ih_pi": "ih_pi_5"}
    scores = score_estimators(jets, [by_name(name) for name in names.values()])
    errors = prompt_errors(scores, k=5).groupby("estimator")["top_k_relative_error"].mean()
    table = pd.read_csv(built.root / "tables/table2.csv", comment="#").set_index("method")
    for method, name in names.items():
        found, expected = table.loc[method, "top5_rel_error_pct"], 100 * errors[name]
        assert found == pytest.approx(expected, rel=1e-4)  # float32, in other batches
        assert fixed(found) == fixed(expected)


def test_what_a_run_prints_is_lines(first_run):
    built, result = first_run
    output = result.output
    for rule in ("truth", "top", "ranking_jets"):
        assert f"{rule} {built.model}/ioi: 2.0 of 2 prompts" in output
        assert output.count(f"{rule} {built.model}/ioi: ") <= 3
    assert "\r" not in output
    assert f"Measure every component for the largest effects: {built.model}/ioi" in output


def test_a_second_call_does_nothing_and_says_so(built):
    began = time.monotonic()
    result = built.snakemake("tables/table2.tex")
    assert result.status == 0
    assert "Nothing to be done" in result.output
    assert time.monotonic() - began < 30  # it only parses; jobs would take minutes


@pytest.mark.parametrize(
    "path", ["src/hvp_patching/reporting/style.py", "workflow/scripts/write_table.py"]
)
def test_a_change_of_presentation_writes_the_table_and_no_more(fork, path):
    (fork.root / path).write_text(f"{fork.text(path)}\n# a change\n")
    assert fork.snakemake("-n", "tables/table2.tex").jobs() == {"table2": 1}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_local_checkpoints_content_is_an_input(built, checkpoint, name):
    """A file of the same size and older than all results in its place reruns what rests on it."""
    path = checkpoint / name
    content, status = path.read_bytes(), path.stat()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, (1, 1))
        jobs = built.snakemake("-n", "tables/table2.tex").jobs()
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert {"prepare_model", "build_prompts", "compute_truth", "compute_top"} <= set(jobs)
    assert jobs["table2"] == 1


def test_another_entry_of_the_registry_reruns_nothing(fork):
    path = "src/hvp_patching/models/registry.py"
    (fork.root / path).write_text(f"{fork.text(path)}\n# a change\n")
    assert "Nothing to be done" in fork.snakemake("-n", "tables/table2.tex").output


@pytest.mark.parametrize(
    ("engine", "rerun"),
    [
        ({"memory_gb": 1, "device": "cpu"}, set()),
        ({"backend": "autograd"}, {"compute_truth", "compute_top"}),
        ({"dtype": "float64"}, {"compute_truth", "compute_top"}),
    ],
    ids=["memory and device", "backend", "dtype"],
)
def test_only_what_changes_a_number_reruns_a_model(built, engine, rerun):
    jobs = built.snakemake("-n", "tables/table2.tex", engine=engine).jobs()
    assert {name for name in jobs if name.startswith("compute_")} == rerun


def test_turning_the_check_on_or_off_reruns_nothing(built):
    """It is a resource and an environment variable: it changes no number."""
    for level in ("off", "sample", "all"):
        result = built.snakemake("-n", "tables/table2.tex", env={"HVP_CHECK": "1"}, check=level)
        assert "Nothing to be done" in result.output


def test_a_wrong_number_in_the_store_stops_the_rule_with_one_line(fork):
    """One number, with its checksum in order: only the check, on a sample of rows, can tell."""
    for path in (fork.root / "results/store").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            tensors = load(content[START:])
            if "values" in tensors:
                tensors["values"] = tensors["values"] + 0.25
                length = int.from_bytes(content[START : START + 8], "little")
                metadata = json.loads(content[START + 8 : START + 8 + length])["__metadata__"]
                payload = save(tensors, metadata)
                path.write_bytes(MARK + hashlib.sha256(MARK + payload).digest() + payload)
    (fork.root / fork.jets).unlink()
    result = fork.snakemake(fork.jets, env={"HVP_CHECK": "1"}, check="off")
    assert result.status != 0
    line = result.line("compute_ranking_jets: check: prompt 'ioi-")
    assert " by finite differences (tolerance " in line
    assert ", order " in line
    assert not (fork.root / fork.jets).exists()


def test_one_prompt_more_computes_one_prompt(fork, computed):
    assert computed(fork) == [15, 15]  # f(1) was there, for the table
    result = fork.snakemake(fork.jets, prompts={"quick": {"ioi": 3}})
    assert result.status == 0, result.output
    assert computed(fork) == [0, 0, 16]
    assert pd.read_parquet(fork.root / fork.jets)["prompt_id"].nunique() == 3


def test_deleted_jets_come_back_from_the_store_and_a_damaged_entry_is_computed_again(
    fork, computed
):
    jets = pd.read_parquet(fork.root / fork.jets)
    entry = entry_of_ranking_jets(fork)
    (fork.root / fork.jets).unlink()
    assert fork.snakemake(fork.jets).status == 0
    assert computed(fork) == [0, 0]

    (fork.root / fork.jets).unlink()
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)
    result = fork.snakemake(fork.jets)
    assert result.status == 0, result.output
    assert sum(computed(fork)) == 1
    name = entry.relative_to(fork.root)
    assert f"store entry {name} is damaged (checksum differs); computing it again" in fork.text(
        fork.jets_log
    )
    assert result.line("compute_ranking_jets: ") == (
        "compute_ranking_jets: results/store: 1 entry damaged, renamed .damaged and computed again "
        f"(first: {name}, checksum differs)"
    )
    pd.testing.assert_frame_equal(pd.read_parquet(fork.root / fork.jets), jets)


def test_a_killed_run_goes_on_where_it_was(fork, computed):
    fewer = {"quick": {"all_components": {"ioi": 60}}}
    many = {"prompts": {"quick": {"ioi": 60}}, "fewer_prompts": fewer}
    log = fork.root / fork.jets_log
    log.unlink()
    process = subprocess.Popen(
        fork.command(fork.jets, **many),
        cwd=fork.root,
        env=fork.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not log.exists() or len(computed(fork)) < 5:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = len(computed(fork))
    assert 5 <= done < 60
    assert not (fork.root / fork.jets).exists()

    locked = fork.snakemake(fork.jets, **many)
    assert locked.status != 0
    assert "It can be removed with the --unlock argument" in locked.output
    assert fork.snakemake("--unlock", **many).status == 0
    result = fork.snakemake(fork.jets, **many)
    assert result.status == 0, result.output
    nodes = computed(fork)
    assert nodes[:done] == [0] * done
    assert nodes[-1] == 16
    assert pd.read_parquet(fork.root / fork.jets)["prompt_id"].nunique() == 60


def test_the_report_builds_without_a_network(fork):
    result = fork.snakemake("--report", "report.zip", "tables/table2.tex")
    assert result.status == 0, result.output
    with zipfile.ZipFile(fork.root / "report.zip") as archive:
        names = archive.namelist()
        texts = [archive.read(name).decode("utf-8", "replace") for name in names]
    assert any(name.endswith("report.html") for name in names)
    assert any("top-5 relative error of every estimator" in text for text in texts)
    # what docutils leaves where it cannot read a text
    assert not [text for text in texts if 'class="system-message"' in text]
