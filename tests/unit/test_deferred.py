"""Reading the rules loads no heavy module (workflow/deferred.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"pandas", "pyarrow", "scipy", "torch", "transformers", "transformer_lens", "matplotlib"}


def run(code: str) -> str:
    paths = f"import sys\nsys.path[:0] = [{str(ROOT / 'workflow')!r}, {str(ROOT / 'src')!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", paths + code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


def test_the_snakefile_loads_nothing_heavy():
    """As the Snakefile does it: what it imports, and the check of the default configuration."""
    text = (ROOT / "Snakefile").read_text(encoding="utf-8")
    imports = [
        line for line in text.splitlines() if line.startswith(("from ", "import ", "defer("))
    ]
    assert imports.index('defer("pandas")') < imports.index("from artefacts import artefacts")
    code = "\n".join(imports) + (
        "\nimport yaml, deferred"
        "\nfrom analyses import analyses, overall"
        "\nfrom artefacts import TABLES, artefact, load_table"
        "\nconfig = yaml.safe_load(open('config/config.yaml'))"
        "\ncheck_config(config)"
        "\nanalyses(config), overall(config)"
        "\n[artefact(config, load_table(name)) for name in TABLES]"
        f"\nprint(*[name for name in {sorted(HEAVY)!r} if name in sys.modules"
        " and not isinstance(sys.modules[name], deferred.Deferred)])"
    )
    assert run(code) == ""


def test_a_deferred_module_is_the_real_one_when_it_is_used():
    code = (
        "from deferred import Deferred, defer\ndefer('colorsys', 'json')\nimport colorsys, json\n"
        "assert type(sys.modules['colorsys']) is Deferred\n"
        "print(colorsys.rgb_to_hsv(0, 0, 0), type(sys.modules['colorsys']) is Deferred)\n"
        "from colorsys import hsv_to_rgb\nimport xml\ndefer('xml')\n"
        "assert type(sys.modules['xml']) is not Deferred\n"
        "defer('wsgiref')\nimport wsgiref.util\nprint(wsgiref.util.__name__)\n"
        "defer('gone_module')\nimport gone_module\n"
        "try:\n    gone_module.x\nexcept ModuleNotFoundError as error:\n    print(error)\n"
    )
    assert run(code).splitlines() == [
        "(0.0, 0.0, 0) False",
        "wsgiref.util",
        "No module named 'gone_module'",
    ]
