"""The path grammar (workflow/grammar.py): it stands once, and no two results share a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

import grammar  # noqa: E402

ROOMS = r"[\"'](results|logs|tables|figures|data/models)/"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=lambda p: p.name
)
def test_rules_name_results_and_spell_no_path(path):
    found = re.findall(ROOMS, path.read_text(encoding="utf-8"))
    assert not found


def test_no_two_results_share_a_file():
    assert len(set(grammar.PATHS.values())) == len(grammar.PATHS)
    assert grammar.path_of("paired") == (
        "results/metrics/{model}/{task}/{corruption}/{site}/paired.parquet"
    )
    assert grammar.path_of_overall("tally_gim") == "results/metrics/tally_gim.parquet"


@pytest.mark.parametrize("of", [grammar.MODEL, grammar.PROMPT_LIST, grammar.SETTING])
def test_logs_and_timings_have_the_wildcards_of_their_jobs(of):
    wildcards = re.findall(r"\{(\w+)\}", of)
    for path in (grammar.log_of("compute_jets", of), grammar.timing_of("compute_jets", of)):
        assert re.findall(r"\{(\w+)\}", path) == wildcards
        assert "compute_jets/" in path
        assert path.count("/") == (2 if path.startswith("logs") else 3)
    assert grammar.log_of("table2") == "logs/table2.log"
    assert grammar.log_of("figure3", ending="ipynb") == "logs/figure3.ipynb"
