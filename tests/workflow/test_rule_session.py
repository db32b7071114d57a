"""What the workflow's scripts share: the failure's one line, the log, bars and whole files."""

from __future__ import annotations

import errno
import io
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow" / "scripts"))

import rule_session


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where the lines for the user go."""
    stream = io.StringIO()
    monkeypatch.setattr(rule_session, "TERMINAL", rule_session.Lines(stream))
    monkeypatch.setattr(logging, "raiseExceptions", True)  # restored after the test
    for variable in ("TQDM_DISABLE", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "")
    return stream


def call(log: Path | str, main: object, **options: bool) -> None:
    job = SimpleNamespace(rule="some_rule", log=[str(log)], threads=1)
    rule_session.run(job, main, **options)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("prompts differ:\n  5 and\n  6"), "prompts differ: 5 and 6"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "the disk is full; free some space and run the same command again",
        ),
        (
            RuntimeError("I/O error: No space left on device"),
            "the disk is full; free some space and run the same command again",
        ),
        (
            MemoryError(),
            "out of memory; lower engine.memory_gb in the config and run the same command again",
        ),
        (KeyError("layer"), "KeyError: 'layer' (traceback in {log})"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_one_line_and_the_log_has_the_traceback(tmp_path, terminal, error, line):
    def fail() -> None:
        raise error

    log = tmp_path / "rule.log"
    with pytest.raises(SystemExit) as stopped:
        call(log, fail)
    assert stopped.value.code == 1
    assert terminal.getvalue() == f"some_rule: {line.format(log=log)}\n"
    assert "Traceback" in log.read_text()


def test_a_disk_too_full_for_the_log_does_not_hide_the_reason(terminal):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def fail() -> None:
        print("something for the log")
        raise ValueError("the reason; do this")

    with pytest.raises(SystemExit):
        call("/dev/full", fail)
    assert "the disk is full" in terminal.getvalue() or "the reason" in terminal.getvalue()


def test_what_a_script_prints_goes_to_the_log_unless_it_is_for_the_user(tmp_path, terminal):
    def speak() -> None:
        print("to stderr", file=sys.stderr)
        print("to stdout")

    call(tmp_path / "quiet.log", speak)
    assert terminal.getvalue() == ""
    assert set((tmp_path / "quiet.log").read_text().split("\n")) >= {"to stderr", "to stdout"}
    call(tmp_path / "shown.log", speak, show=True)
    assert terminal.getvalue() == "to stderr\n"


def test_a_bar_in_a_pipe_is_a_few_whole_lines(terminal):
    for _ in rule_session.with_progress(range(500), "jets a/b", 500):
        pass
    lines = terminal.getvalue().splitlines()
    assert lines[0].startswith("jets a/b: 0.0 of 500 prompts")
    assert lines[-1].startswith("jets a/b: 500.0 of 500 prompts")
    assert len(lines) <= 3
    assert "\r" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "table.parquet"
    rule_session.save_table(pd.DataFrame({"a": [1]}), path)
    before = path.read_bytes()

    class Broken(pd.DataFrame):
        def to_parquet(self, target: Path) -> None:
            Path(target).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ValueError, match="No space left"):
        rule_session.save_table(Broken({"a": [2]}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
