"""Source files as inputs of the rules that run them (workflow/code_inputs.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from snakemake.exceptions import WorkflowError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

import artefacts as artefact_lists  # noqa: E402
import code_inputs  # noqa: E402


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the project's files are inputs by relative paths."""
    monkeypatch.chdir(ROOT)


TOY = {
    "src/hvp_patching/__init__.py": "",
    "src/hvp_patching/a.py": "from . import b\nfrom .pack.inner import deep\n",
    "src/hvp_patching/b.py": (
        "import typing\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from hvp_patching.hint import H\n"
        "else:\n    from hvp_patching.real import H\n"
        "if typing.TYPE_CHECKING:\n    import hvp_patching.hint\n"
    ),
    "src/hvp_patching/hint.py": "",
    "src/hvp_patching/real.py": "def f():\n    import hvp_patching.late\n",
    "src/hvp_patching/late.py": "import importlib\nimportlib.import_module('hvp_patching.named')\n",
    "src/hvp_patching/named.py": "",
    "src/hvp_patching/pack/__init__.py": (
        "from typing import TYPE_CHECKING\nfrom .other import thing\n"
        "if TYPE_CHECKING:\n    from hvp_patching.pack.lazy import slow as quick\n"
        "OWN = 1\n"
    ),
    "src/hvp_patching/pack/inner.py": "from ..up import x\n",
    "src/hvp_patching/pack/other.py": "",
    "src/hvp_patching/pack/lazy.py": "",
    "src/hvp_patching/up.py": "",
    "src/hvp_patching/models/registry.py": "from hvp_patching.models import behind",
    "src/hvp_patching/models/behind.py": "",
    "workflow/scripts/direct.py": "import hvp_patching.a\n",
    "workflow/scripts/lazily.py": "def main():\n    from hvp_patching.pack import quick\n",
    "workflow/scripts/at_once.py": "from hvp_patching.pack import thing\n",
    "workflow/scripts/own.py": "from hvp_patching.pack import OWN\n",
    "workflow/scripts/star.py": "from hvp_patching.pack import *\n",
    "workflow/scripts/module.py": "from hvp_patching.pack import inner\n",
    "workflow/scripts/stops.py": "import hvp_patching.models.registry\n",
}
CLOSURES = {
    "direct": "a b late named pack/inner real up",
    "lazily": "pack/lazy",
    "at_once": "pack/other",
    "own": "pack/__init__ pack/other",
    "star": "pack/__init__ pack/other",
    "module": "pack/inner up",
    "stops": "",
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A small project, and a way to read it as a fresh start of Snakemake would."""
    for name, text in TOY.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    copy = tmp_path / "workflow/code_inputs.py"
    copy.write_text((ROOT / "workflow/code_inputs.py").read_text())
    monkeypatch.chdir(tmp_path)

    def start():
        spec = importlib.util.spec_from_file_location("toy_inputs", copy)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return tmp_path, start


def modules(files: list[str]) -> str:
    return " ".join(file.partition("hvp_patching/")[2].removesuffix(".py") for file in files)


def test_a_scripts_code_is_what_it_imports_while_it_runs(toy):
    """Relative, late and named imports count, those for type checkers do not."""
    read = toy[1]()
    assert {name: modules(read.script_code(name)) for name in CLOSURES} == CLOSURES


def test_what_was_read_is_kept_and_read_again_once_it_changes(toy, monkeypatch):
    folder, start = toy
    first = start()
    before = first.script_code("direct")
    first.MEMORY._save()
    assert not list(folder.glob(".snakemake/*.py*.")), "nothing half-written is left"

    second = start()
    monkeypatch.setattr(second, "_read_imports", lambda path: pytest.fail(f"{path} read again"))
    assert second.script_code("direct") == before

    (folder / "src/hvp_patching/up.py").write_text("import hvp_patching.hint\n")
    assert modules(start().script_code("direct")).split() == [
        *("a", "b", "hint", "late", "named", "pack/inner", "real", "up")
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"of": 1}', '{"of": [1, "x"], "files": {}}', "\0"])
def test_a_damaged_memory_is_read_anew(toy, text):
    folder, start = toy
    (folder / ".snakemake").mkdir()
    (folder / ".snakemake/code_inputs.json").write_text(text)
    assert modules(start().script_code("direct")) == CLOSURES["direct"]


def test_elsewhere_files_of_the_project_are_absolute(toy, monkeypatch):
    folder, start = toy
    (folder / "away").mkdir()
    monkeypatch.chdir(folder / "away")
    read = start()
    assert read.project_file("data/x{n}.csv") == f"{folder}/data/x{{n}}.csv"
    assert all(Path(path).is_file() for path in read.script_code("direct"))


def test_a_folder_that_cannot_be_written_goes_without_a_memory(toy, monkeypatch):
    folder, start = toy
    (folder / ".snakemake").write_text("a file in its way")
    read = start()
    assert modules(read.script_code("direct")) == CLOSURES["direct"]
    read.MEMORY._save()


def test_the_modules_that_are_left_out_exist():
    names = {
        name.removeprefix("hvp_patching.").replace(".", "/") for name in code_inputs.BEHIND_FILES
    }
    packages = {name for name in names if (ROOT / "src/hvp_patching" / name).is_dir()}
    assert packages == {"checking"}
    assert code_inputs.sources(*(names - packages))
    assert all((ROOT / "src" / name.replace(".", "/")).is_dir() for name in code_inputs.LISTS)


def library(*names: str) -> set[str]:
    return {f"src/hvp_patching/{name}.py" for name in names}


def test_a_sweep_runs_scores_and_the_baselines_that_it_names():
    found = set(code_inputs.script_code("compute_sweep", "baselines/gauss_newton"))
    assert (
        library("measuring/scores", "measuring/sweeps", "estimators", "baselines/gauss_newton")
        <= found
    )
    assert library("baselines/__init__", "paths/jets", "sites", "cache") <= found
    assert not library("baselines/gim", "models/registry", "prompts/ioi", "checking/check") & found
    assert not library("measuring/probes", "measuring/costs", "measuring/attention") & found


def test_a_baseline_runs_its_own_code_and_no_other_baselines():
    found = set(code_inputs.script_code("compute_baseline", "baselines/gim"))
    assert library("baselines/gim", "models/loading", "prompts/pair", "cache") <= found
    assert library("baselines/_named", "baseline_names") <= found  # what the name says of steps
    assert not library("baselines/atp_star", "baselines/local_curvature") & found
    assert not library("baselines/_grad_drop", "baselines/relp") & found
    found = set(code_inputs.script_code("compute_baseline", "baselines/gim_0_1_4"))
    assert library("baselines/gim", "baselines/gim_0_1_4", "baselines/_rules") <= found


def test_weights_depend_on_what_fetches_and_checks_them():
    found = set(code_inputs.weights_code())
    assert library("models/convert", "models/fetch", "models/identity") <= found
    assert not library("models/registry", "models/tiny", "models/notices") & found


def test_no_table_and_no_analysis_runs_what_runs_models():
    for name in artefact_lists.TABLES:
        found = code_inputs.script_code("write_table", f"reporting/tables/{name}")
        assert not [path for path in found if "/models/loading" in path or "/baselines/" in path]


def test_an_import_closure_has_what_a_module_imports_and_no_more():
    found = code_inputs.import_closure("baselines/gim")
    assert "src/hvp_patching/baselines/gim.py" in found
    assert "src/hvp_patching/paths/base_run.py" in found
    assert not {path for path in found if "taylor" in path or "cache" in path}
    assert found == sorted(set(found))


def test_every_notebook_tells_what_it_imports():
    for figure in artefact_lists.FIGURES.values():
        notebook = f"notebooks/{figure.notebook}.ipynb"
        found = code_inputs.notebook_closure(notebook)
        assert "src/hvp_patching/reporting/figures/files.py" in found
        assert all((ROOT / path).is_file() for path in found)


def test_sources_are_files_of_the_library():
    found = code_inputs.sources("metrics/*", "sites")
    assert "src/hvp_patching/sites.py" in found
    assert "src/hvp_patching/metrics/errors.py" in found
    assert all((ROOT / path).is_file() for path in found)
    with pytest.raises(WorkflowError, match=r"no module matches src/hvp_patching/nothing\.py"):
        code_inputs.sources("nothing")


def test_prompts_of_one_task_do_not_depend_on_another_task():
    found = code_inputs.prompt_sources("ioi")
    assert "src/hvp_patching/prompts/ioi.py" in found
    assert not {path for path in found if path.endswith(("factual.py", "registry.py"))}
    with pytest.raises(WorkflowError, match="unknown task 'nope'; known: ioi, "):
        code_inputs.prompt_sources("nope")
