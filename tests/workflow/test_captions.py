"""Every caption of the report, rendered as `snakemake --report` does: jinja, then docutils."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from docutils.core import publish_parts
from docutils.utils import SystemMessage
from jinja2 import Environment, StrictUndefined
from snakemake.utils import update_config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from artefacts import FIGURES, TABLES, artefact, caption_of  # noqa: E402

from hvp_patching.reporting.tables import about, load_table  # noqa: E402

CAPTIONS = sorted((ROOT / "workflow/report").glob("*.rst"))
ODD = "my_model_/odd_task_"  # names that wildcards allow and reStructuredText reads as references


def profiles() -> Iterator[dict[str, Any]]:
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    for name in ("config", "smoke", "paper"):
        own = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))
        config = copy.deepcopy(default)
        update_config(config, own)
        yield config


def made_of(name: str) -> list[SimpleNamespace]:
    """Parameters of the rules that have a caption, in every profile and with odd names."""
    makes = [
        (load_table(table), {"about": about(table)})
        for table in TABLES
        if Path(caption_of(table)).stem == name
    ]
    makes += [(FIGURES[name], {})] if name in FIGURES else []
    found = []
    for config in profiles():
        general = {"profile": config["profile"], "effort": config["effort"]}
        made = [(artefact(config, spec), more) for spec, more in makes]
        rules = [(list(one.settings), dict(one.options), more) for one, more in made]
        for settings, options, more in rules or [([], {}, {"about": about("table2")})]:
            found += [
                SimpleNamespace(settings=names, options=options, **general, **more)
                for names in (settings, [ODD] * len(settings))
            ]
    return found


def rendered(caption: str, params: SimpleNamespace) -> str:
    """The caption as HTML; raises on any message of docutils, the mildest too."""
    env = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    text = env.from_string(caption).render(snakemake=SimpleNamespace(params=params))
    strict = {"halt_level": 1, "report_level": 1, "warning_stream": ""}
    return publish_parts(text, writer="html", settings_overrides=strict)["body"]


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_is_plain_text_for_docutils(path):
    caption = path.read_text(encoding="utf-8")
    for params in made_of(path.stem):
        html = rendered(caption, params)
        assert "system-message" not in html
        assert "problematic" not in html
        assert "{{" not in html


@pytest.mark.parametrize("text", ["error |AP − Δ| / |Δ| of", "of odd_task_ and", "**bold", "`x"])
def test_a_caption_that_docutils_complains_of_is_noticed(text):
    with pytest.raises(SystemMessage):
        rendered(text, SimpleNamespace())


def test_a_size_between_bars_stays_as_it_is_written():
    caption = (ROOT / "workflow/report/figure3.rst").read_text(encoding="utf-8")
    assert "|AP − Δ| / |Δ|" in " ".join(rendered(caption, made_of("figure3")[0]).split())
