"""Whatever goes wrong is one line on stderr and exit code 2, before anything costly is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvp_patching.cli import session
from hvp_patching.cli.app import explain
from hvp_patching.models import forecast

SMOL = ("--model", "smollm2-135m")
PAIRS = ("--pairs", "pairs.csv")


@pytest.fixture
def unloaded(monkeypatch):
    """No model may be loaded."""

    def refuse(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(session, "load_located", refuse)


EARLY = [
    (("pach",), "No such command 'pach'"),
    (("patch",), "Missing option '--model'"),
    (("patch", *SMOL, "--modle", "x"), "No such option: --modle"),
    (("patch", *SMOL), "give --pairs FILE, or one pair by --clean, --corrupted and --target"),
    (("patch", *SMOL, "--clean", "a"), "give --pairs FILE"),
    (("patch", *SMOL, *PAIRS, "--clean", "a"), "both --pairs and a pair"),
    (("patch", *SMOL, *PAIRS, "--site", "heads"), "unknown site 'heads'; choose one of: attn_he"),
    (("patch", *SMOL, *PAIRS, "--metric", "loss"), "unknown metric 'loss'; choose logprob or"),
    (("patch", *SMOL, *PAIRS, "--direction", "up"), "unknown direction 'up'"),
    (("patch", *SMOL, *PAIRS, "--dtype", "half"), "unknown dtype 'half'"),
    (("patch", *SMOL, *PAIRS, "--top", "0"), "--top"),
    (("patch", *SMOL, *PAIRS, "--top", "ten"), "--top"),
    (("patch", *SMOL, *PAIRS, "--out", "run.xlsx"), "results are written as .json, .csv, .html"),
    (("patch", *SMOL, *PAIRS, "--out", "pairs.csv"), "is the file of pairs"),
    (("patch", *SMOL, *PAIRS, "--out", "pairs.csv/run.json"), "pairs.csv is no folder"),
    (("patch", *SMOL, "--pairs", "none.csv"), "no file none.csv"),
    (("patch", "--model", "smolm2-135m", *PAIRS), "unknown model 'smolm2-135m' (meant: smoll"),
    (("patch", *SMOL, *PAIRS, "--revision", "v1"), "is no Hub repository"),
    (("jets", *SMOL, *PAIRS, "--estimators", "hvq"), "unknown estimator 'hvq'; known: ap, hvp"),
    (("jets", *SMOL, *PAIRS, "--estimators", "ap,ap"), "names ap twice"),
    (("jets", *SMOL, *PAIRS, "--estimators", " ,"), "--estimators is empty"),
    (("verify", "none"), "no folder none"),
]


def one_line(result) -> str:
    """The failure's line, which is the last one of stderr."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    failures = [line for line in result.stderr.splitlines() if line.startswith("hvp-patching: ")]
    assert len(failures) == 1
    assert result.stderr.endswith(f"{failures[0]}\n")
    return failures[0]


@pytest.mark.parametrize(("words", "said"), EARLY)
def test_a_mistake_is_met_before_a_model_is_loaded(call, unloaded, words, said):
    assert said in one_line(call(*words))


def test_wrong_use_names_the_help(call):
    assert one_line(call("patch", "--modle")).endswith("; see hvp-patching patch --help")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "tpu"), "unknown device 'tpu'; devices here: auto, cpu"),
        (("--bos",), "smollm2-135m is run without a BOS token"),
    ],
)
def test_what_only_the_loader_knows(call, words, said):
    assert said in one_line(call("patch", *SMOL, *PAIRS, *words))


def test_a_bad_row_stops_with_its_line(call):
    assert "pairs.jsonl, line 3: target ' Mary and John'" in one_line(
        call("patch", *SMOL, "--pairs", "pairs.jsonl")
    )


def test_a_metric_that_needs_a_foil_names_the_row_without_one(call):
    text = Path("pairs.csv").read_text().splitlines()
    text[2] = text[2].rpartition(",")[0] + ","
    Path("pairs.csv").write_text("\n".join(text))
    said = one_line(call("patch", *SMOL, *PAIRS, "--metric", "logit_difference"))
    assert "pairs.csv, line 3: logit_difference needs a foil" in said


def test_too_little_memory_is_refused_with_both_numbers(call, unloaded, monkeypatch):
    monkeypatch.setattr(forecast, "free_memory", lambda: 500_000_000)
    said = one_line(call("patch", *SMOL, *PAIRS))
    assert "need about 0.76 GB on cpu, which has 0.50 GB free" in said


def test_little_memory_makes_small_passes(call, monkeypatch):
    given = []

    def jets(*args, memory, **options):
        given.append(memory)
        raise ValueError("enough")

    from hvp_patching.cli import measure

    monkeypatch.setattr(measure, "path_jets", jets)
    monkeypatch.setattr(forecast, "free_memory", lambda: 1_000_000_000)
    assert one_line(call("patch", *SMOL, *PAIRS, "--device", "cpu")).endswith("enough")
    assert 300_000_000 < given[0] < 400_000_000


def test_the_first_lines_come_before_loading(call, monkeypatch):
    said = []
    monkeypatch.setattr(session, "say", said.append)

    def stop(*_):
        raise ValueError(" | ".join(said))

    monkeypatch.setattr(session, "load_located", stop)
    first = one_line(call("patch", *SMOL, *PAIRS))
    assert "3 pairs, site attn_heads, logprob | smollm2-135m: " in first
    assert "parameters; memory on cpu: needs about" in first


def test_debug_shows_where(call):
    result = call("patch", *SMOL, "--pairs", "none.csv", "--debug")
    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\n  b"), "a b"),
        (OSError(28, "No space left on device"), "the disk is full; free some space and run"),
        (MemoryError(), "out of memory; use a smaller model"),
        (KeyError("layer"), "KeyError: 'layer' (--debug shows where)"),
        (RuntimeError(), "RuntimeError: RuntimeError (--debug"),
    ],
)
def test_every_failure_has_its_line(error, line):
    assert explain(error).startswith(line)


def test_ctrl_c_stops_quietly(call, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "load_located", stop)
    result = call("patch", *SMOL, *PAIRS)
    assert result.exit_code == 130
    assert result.stderr.endswith("hvp-patching: stopped\n")


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("words", [["--help"], ["patch", "--help"], ["models"], ["--version"]])
def test_help_and_the_registry_load_no_torch(words, place):
    code = (
        "import sys\nfrom hvp_patching.cli.app import app\n"
        f"try: app({words!r})\nexcept SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'pandas', 'scipy'}\n"
        "print('loaded', *heavy & set(sys.modules)); sys.exit(code)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded"


def test_a_mistake_in_the_pairs_loads_no_torch(place):
    Path("bad.csv").write_text("clean,corrupted\n")
    code = (
        "import sys\nfrom hvp_patching.cli.app import app\n"
        "try: app(['patch', '-m', 'smollm2-135m', '-p', 'bad.csv'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    assert python(code).stdout == "2 False\n"


def test_a_terminal_without_the_signs_gets_others(place):
    command = [sys.executable, "-m", "hvp_patching.cli", "patch", *SMOL, *PAIRS]
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "|-" in done.stdout
    assert "o" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_failure(place):
    command = f"{sys.executable} -m hvp_patching.cli models | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
