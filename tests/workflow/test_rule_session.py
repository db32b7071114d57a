"""What the workflow's scripts share: the failure's one line, the log, bars and whole files."""

from __future__ import annotations

import errno
import io
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from hvp_patching.environments import Environment, file_environments, with_environments

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow" / "scripts"))

import rule_session


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where the lines for the user go."""
    stream = io.StringIO()
    monkeypatch.setattr(rule_session, "TERMINAL", rule_session.Lines(stream))
    monkeypatch.setattr(rule_session, "STORES", [])
    monkeypatch.setattr(rule_session, "ENVIRONMENTS", set())
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
    with rule_session.progress("jets a/b", 500) as bar:
        for _ in range(500):
            bar.update(1)
    lines = terminal.getvalue().splitlines()
    assert lines[0].startswith("jets a/b: 0.0 of 500 prompts")
    assert lines[-1].startswith("jets a/b: 500.0 of 500 prompts")
    assert len(lines) <= 3
    assert "\r" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")


def test_a_table_is_written_whole_or_not_at_all(tmp_path, terminal, monkeypatch):
    path = tmp_path / "table.parquet"
    rule_session.save_table(pd.DataFrame({"a": [1]}), path)
    before = path.read_bytes()

    def fail(self: pd.DataFrame, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(ValueError, match="No space left"):
        rule_session.save_table(pd.DataFrame({"a": [2]}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class Key:
    """The smallest key of a store."""

    def digest(self) -> str:
        return "ab" * 32

    def fields(self) -> dict[str, str]:
        return {}


HERE = Environment("2.13.0", "5", "4", "cpu (a)", "highest", "eager", "float32")
THERE = replace(HERE, torch="2.14.0")


def test_what_a_rule_saves_names_all_that_it_read_and_computed(tmp_path, terminal):
    first, second, third = (tmp_path / f"{name}.parquet" for name in "abc")
    store = rule_session.open_store(tmp_path / "store")
    store.put(Key(), {"x": torch.ones(1)}, HERE)
    rule_session.save_table(pd.DataFrame({"a": [1]}), first)
    with_environments(pd.DataFrame({"a": [1]}), [THERE]).to_parquet(second)
    assert list(rule_session.read_table(second)["a"]) == [1]
    rule_session.save_table(pd.DataFrame({"a": [1]}), third)
    assert file_environments([first]) == {HERE}
    assert file_environments([third]) == {HERE, THERE}
    assert rule_session.environments_line().startswith("computed with 2 environments: ")


def test_damaged_entries_are_counted_in_one_line_at_the_rules_end(tmp_path, terminal, caplog):
    def work() -> None:
        for name in ("ab", "cd"):
            key = Key()
            key.digest = lambda name=name: name * 32  # type: ignore[method-assign]
            store = rule_session.STORES[0] if rule_session.STORES else None
            store = store or rule_session.open_store(tmp_path / "store")
            store.put(key, {"x": torch.ones(1)}, HERE)
            store.path(key).write_bytes(b"nonsense")
            assert store.get(key) is None

    call(tmp_path / "rule.log", work)
    (line,) = terminal.getvalue().splitlines()
    assert line.startswith(
        f"some_rule: {tmp_path / 'store'}: 2 entries damaged, renamed .damaged and computed again"
    )
    assert "2 entries damaged" in caplog.text


def test_a_check_logs_its_summary_where_it_is_on(tmp_path, terminal, monkeypatch, caplog):
    def work() -> None:
        with rule_session.checking(job) as check:
            check.rows("a", [1, 2], lambda rows: [])

    job = SimpleNamespace(resources=SimpleNamespace(check="off"))
    monkeypatch.delenv("HVP_CHECK", raising=False)
    caplog.set_level(logging.INFO)
    call(tmp_path / "off.log", work)
    assert "check: " not in caplog.text
    monkeypatch.setenv("HVP_CHECK", "all")
    call(tmp_path / "on.log", work)
    assert "check: 2 of 2 rows agree" in caplog.text
    monkeypatch.setenv("HVP_CHECK", "maybe")
    with pytest.raises(SystemExit):
        call(tmp_path / "bad.log", work)
    assert "some_rule: HVP_CHECK is 'maybe'; set it to 1, 0 or one of: off" in terminal.getvalue()


def test_what_a_rule_wrote_is_recorded(tmp_path, terminal, monkeypatch):
    from hvp_patching.verification.manifest import fault, recorded

    monkeypatch.chdir(tmp_path)
    job = SimpleNamespace(rule="some_rule", log=["rule.log"], threads=1, output=["results/a.csv"])

    def write() -> None:
        Path("results").mkdir()
        Path("results/a.csv").write_text("1")

    rule_session.run(job, write)
    ((_, entry),) = recorded()
    assert (entry.path, entry.rule, fault(entry)) == ("results/a.csv", "some_rule", "")
    Path("results/a.csv").write_text("2")
    assert fault(entry).startswith("changed since some_rule wrote it")
