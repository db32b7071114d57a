"""What no file of the project does: unpickle, run foreign code, or hand a config to a shell."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Modules that run what they read, or read by shape alone.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
MODULES |= {"tarfile", "xml", "lxml", "commands", "pty", "pipes"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "breakpoint", "input"),
    *("os.system", "os.popen", "os.execv", "os.execvp", "os.spawnl"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all"),
    *("torch.load", "torch.save", "torch.hub.load", "np.load", "numpy.load", "np.save"),
    *("pd.read_pickle", "pandas.read_pickle", "shutil.unpack_archive", "runpy.run_path"),
}
METHODS = {"extractall", "to_pickle", "load_state_dict_from_url", "read_pickle"}
EVALUATED = {"src/hvp_patching/claims/selection.py"}  # frame.eval, behind claims/expressions.py
AUTO = re.compile(r"^Auto[A-Z]\w+\.from_pretrained$")
FILES = sorted(
    path
    for folder in ("src", "workflow", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
RULES = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def name_of(node: ast.AST) -> str:
    """'a.b.c' of a chain of names, '' of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}".lstrip(".")
    return ""


def faults(source: str, file: str = "") -> Iterator[str]:
    """Every dangerous import and call of a Python source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [alias.name for alias in node.names]
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else named
            yield from (f"import {n}" for n in names if n.split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            yield from _of_call(node, name_of(node.func), file)


def _of_call(node: ast.Call, name: str, file: str) -> Iterator[str]:
    last, keywords = name.rpartition(".")[2], {word.arg: word.value for word in node.keywords}
    if name in CALLS or last in METHODS:
        yield f"{name}()"
    if last == "eval" and node.args and file not in EVALUATED:
        yield f"{name}()"
    for word, value in keywords.items():
        constant = value.value if isinstance(value, ast.Constant) else None
        if word in {"allow_pickle", "trust_remote_code"} and constant is not False:
            yield f"{name}({word}=…)"
        if word == "shell" and constant is not False:
            yield f"{name}(shell=…)"
        if word == "weights_only" and constant is not True:
            yield f"{name}(weights_only=…)"
        if word in {"torch_script", "use_auth_token"}:
            yield f"{name}({word}=…)"
    if AUTO.match(name) and not {"trust_remote_code", "local_files_only"} <= keywords.keys():
        yield f"{name}() without trust_remote_code=False and local_files_only"
    loader = keywords.get("Loader", ast.Pass())
    safe = name_of(loader.func if isinstance(loader, ast.Call) else loader)
    if name == "yaml.load" and safe not in {"Loader", "_safe_loader"}:
        yield "yaml.load() without our Loader"
    if name.startswith("subprocess.") and node.args and isinstance(node.args[0], ast.JoinedStr):
        yield f"{name}() of a text"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_does_it(path):
    name = str(path.relative_to(ROOT))
    assert list(faults(path.read_text(encoding="utf-8"), name)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_does_it(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code
    for source in code:
        assert not re.search(r"^\s*[!%]", source, re.M)  # shell and magics
        assert list(faults(source)) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import os\nos.system('x')"),
        *("torch.load(path)", "np.load(path, allow_pickle=True)", "f(allow_pickle=yes)"),
        *("AutoModel.from_pretrained(p)", "f.from_pretrained(p, trust_remote_code=True)"),
        *("yaml.load(text)", "yaml.load(text, Loader=yaml.Loader)", "frame.eval('a')", "eval(x)"),
        *("subprocess.run(f'rm {x}', shell=True)", "archive.extractall()", "run(x, shell=flag)"),
    ],
)
def test_what_would_be_found(source):
    assert list(faults(source))


def test_every_loader_is_a_safe_one(monkeypatch):
    """The name that yaml.load is given here is PyYAML's safe loader, in C where it is there."""
    monkeypatch.syspath_prepend(str(ROOT / "workflow"))
    import config_values
    import yaml

    from hvp_patching import files

    assert {config_values.Loader, files._safe_loader()} <= {yaml.CSafeLoader, yaml.SafeLoader}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_hand_values_to_scripts_and_never_to_a_shell(path):
    """A rule's work is a script, which reads its parameters as Python values."""
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"^\s*(?:shell|run|wrapper|cwl|template_engine)\s*:", text, re.M)
    assert not re.findall(r"\bshell\s*\(|\bos\.(?:system|popen)\b|subprocess", text)
    rules = len(re.findall(r"^\s*rule\b[^\n]*:", text, re.M)) - text.count("rule all:")
    works = len(re.findall(r"^\s*(?:script|notebook)\s*:", text, re.M))
    assert works >= rules


def test_scripts_are_named_in_the_rules_and_not_by_the_configuration():
    named = [
        line
        for path in RULES
        for line in re.findall(
            r"^\s*(?:script|notebook)\s*:\n\s*(.+)$", path.read_text(encoding="utf-8"), re.M
        )
    ]
    assert len(named) > 10
    assert not [line for line in named if "config" in line]
